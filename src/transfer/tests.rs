//! Import and export over a node in a temporary directory.

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::actors::post::message::{Answer, Query};
use crate::actors::post::message::{Command, ImportKey, Reader, Reply, SortKey, Visibility};
use crate::actors::router::Call;
use crate::actors::user::message::{Answer as UserAnswer, Query as UserQuery};
use crate::config::Config;
use crate::demo::Site;
use crate::http::accounts::{Change, update};
use crate::http::{fields, people};
use crate::ids::{Bucket, PostId, Stamp};
use crate::node::Node;
use crate::seams::{Clock, Random, Seams};
use crate::transfer::applied::Applied;
use crate::transfer::chunk::Item;
use crate::transfer::engine::Engine;
use crate::transfer::export::{Export, ExportError};
use crate::transfer::record::Record;

const DIGEST: [u8; 32] = [9; 32];
const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$c29tZWhhc2hzb21laGFzaHNvbWVoYXNo";

type Exporting = (JoinHandle<Result<(), ExportError>>, mpsc::Receiver<Vec<u8>>);

struct Fixture {
    node: Node,
    _folder: tempfile::TempDir,
}

impl Fixture {
    async fn new(shards: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let config = Config { data_dir, shards, ..Config::default() };
        let node = Node::start_offline(&config, Seams::system()).await.unwrap();
        node.wait_ready().await.unwrap();
        Self { node, _folder: folder }
    }

    async fn import(&self, lines: &[String]) -> Applied {
        self.import_as(&DIGEST, lines).await
    }

    async fn import_as(&self, digest: &[u8; 32], lines: &[String]) -> Applied {
        let app = &self.node.app;
        let engine = Engine::new(app.users.clone(), app.posts.clone(), app.seams.clone(), 2);
        let items: Vec<Item> = (1..)
            .zip(lines)
            .map(|(line, text)| {
                let record = Record::parse(text.as_bytes());
                Item { line, record: record.unwrap_or_else(|e| panic!("{text}: {e}")) }
            })
            .collect();
        engine.apply(digest, &items).await.unwrap()
    }

    /// A task that exports.
    fn start_export(&self, with_credentials: bool) -> Exporting {
        let app = &self.node.app;
        let export = Export {
            users: app.users.clone(),
            posts: app.posts.clone(),
            with_credentials,
            began: app.seams.clock.now(),
        };
        let (pieces, received) = mpsc::channel(1);
        (tokio::spawn(async move { export.run(pieces).await }), received)
    }

    async fn export(&self, with_credentials: bool) -> Vec<String> {
        Self::finish_export(self.start_export(with_credentials)).await
    }

    async fn finish_export((exporting, mut received): Exporting) -> Vec<String> {
        let mut text = Vec::new();
        while let Some(piece) = received.recv().await {
            text.extend(piece);
        }
        exporting.await.unwrap().unwrap();
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    /// Gives a user another name.
    async fn rename(&self, from: &str, to: &str) {
        let app = &self.node.app;
        let (user, _) = people::by_name(app, from).await.unwrap().unwrap();
        let query = UserQuery::GetAccount { user };
        let account = app.users.query(Call::new(), user.bucket(), query).await.unwrap();
        let UserAnswer::Account(account) = account else { panic!("{account:?}") };
        let username = Some(fields::username(to).unwrap());
        let change = Change { username, ..Change::default() };
        update(&app.users, &app.seams, &account, change).await.unwrap();
    }

    /// Writes a post here, as the API does: `/v1` asks for no description.
    async fn write(&self, author: &str, title: &str, visibility: Visibility) -> PostId {
        let (author, _) = people::by_name(&self.node.app, author).await.unwrap().unwrap();
        let command = Command::CreatePost {
            bucket: Bucket::new(Random::system().any()),
            author,
            title: title.to_owned(),
            description: String::new(),
            body: "b".to_owned(),
            tags: vec!["t".to_owned()],
            visibility,
            publish_at: None,
            link_token: [1; 16],
            created_at: None,
            import: None,
        };
        match self.node.app.posts.command(Call::new(), command).await.unwrap() {
            Reply::Post { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    async fn comment(&self, post: PostId, author: &str, body: &str) {
        let (id, _) = people::by_name(&self.node.app, author).await.unwrap().unwrap();
        let reader =
            Reader { id, follows_author: false, blocked_by_author: false, link_token: None };
        let body = body.to_owned();
        let command = Command::AddComment { post, reader, body, created_at: None, import: None };
        self.node.app.posts.command(Call::new(), command).await.unwrap();
    }

    async fn stop(self) {
        self.node.stop().await.unwrap();
    }
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_that_is_imported_is_exported_alike() {
    let first = Fixture::new(2).await;
    let now = Clock::system().now();
    let site = Site { seed: 3, users: 20, posts: 40, now, password_hash: Some(HASH.to_owned()) };
    let generated: Vec<String> =
        site.records().map(|record| serde_json::to_string(&record).unwrap()).collect();
    let applied = first.import(&generated).await;
    assert_eq!(applied.problems, []);
    let special = lines(
        r#"
        {"kind":"user","username":"Zoë","email":"zoe@example.com"}
        {"kind":"post","key":"x/1","author":"zoë","title":"F","description":"d","body":"b","visibility":"followers","created_at":1500000000000}
        {"kind":"post","key":"x/2","author":"zoë","title":"D","description":"d","body":"b\u0001\"","visibility":"draft","created_at":"2020-01-02T03:04:05.678901Z"}
        {"kind":"post","key":"x/3","author":"zoë","title":"U","description":"d","body":"b","visibility":"unlisted"}
        {"kind":"post","key":"x/4","author":"zoë","title":"S","description":"d","body":"b","visibility":"scheduled","publish_at":"2100-01-01T00:00:00Z"}
        {"kind":"favorite","user":"demo","post":"x/2"}
        {"kind":"comment","user":"demo","post":"x/2","body":"on what is a draft now","created_at":1600000000000}
        {"kind":"read","user":"zoë","post":"x/1","at":1600000000001}
        "#,
    );
    assert_eq!(first.import(&special).await.problems, []);
    let own = first.write("demo", "written here", Visibility::Public).await;
    first.comment(own, "Zoë", "first").await;
    first.comment(own, "demo", "second").await;

    let exported = first.export(true).await;
    assert!(exported.iter().any(|line| line.contains(&format!("\"key\":\"{own}\""))));
    assert!(exported.iter().any(|line| line.contains(HASH)));
    let second = Fixture::new(1).await;
    assert_eq!(second.import(&exported).await.problems, []);
    let again = second.export(true).await;
    assert_eq!(sorted(again.clone()), sorted(exported.clone()));

    // Once more into the same directories: nothing moves.
    for (fixture, digest) in [(&second, DIGEST), (&first, [1; 32])] {
        let before = fixture.export(true).await;
        // Comments of another file are others, but those of posts written here are here already.
        let repeated: Vec<String> = match digest == DIGEST {
            true => exported.clone(),
            false => {
                let own = format!("\"post\":\"{own}\"");
                exported.iter().filter(|line| line.contains(&own)).cloned().collect()
            }
        };
        let applied = fixture.import_as(&digest, &repeated).await;
        assert_eq!(applied.problems, []);
        assert_eq!(applied.counts.users.done + applied.counts.posts.done, 0);
        assert_eq!(fixture.export(true).await, before);
    }
    assert!(!second.export(false).await.iter().any(|line| line.contains("argon2id")));
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_imported_twice_is_there_once_and_in_the_order_of_its_times() {
    let fixture = Fixture::new(3).await;
    let records = lines(
        r#"
        {"kind":"user","username":"ann","email":"a@example.com","password":"correct horse"}
        {"kind":"user","username":"deleted","email":"deleted@example.invalid"}
        {"kind":"follow","follower":"ann","followed":"deleted"}
        {"kind":"post","key":"new","author":"ann","title":"new","description":"d","body":"b","created_at":3000}
        {"kind":"post","key":"old","author":"ann","title":"old","description":"d","body":"b","created_at":1000}
        {"kind":"post","key":"mid","author":"ann","title":"mid","description":"d","body":"b","created_at":2000}
        {"kind":"comment","user":"ann","post":"old","body":"one","created_at":1500}
        {"kind":"comment","user":"deleted","post":"old","body":"two","created_at":1400}
        {"kind":"favorite","user":"deleted","post":"old"}
        {"kind":"read","user":"ann","post":"old","at":1600}
        "#,
    );
    let first = fixture.import(&records).await;
    assert_eq!(first.problems, []);
    assert_eq!((first.counts.users.done, first.counts.posts.done), (2, 3));
    let exported = fixture.export(true).await;
    let second = fixture.import(&records).await;
    assert_eq!((second.counts.users.existed, second.counts.posts.existed), (2, 3));
    assert_eq!(second.counts.comments.done, 2);
    assert_eq!(fixture.export(true).await, exported);

    let mut keys: Vec<SortKey> = Vec::new();
    for shard in 0..fixture.node.app.posts.shards() {
        let (filters, progress) = (Vec::new(), Default::default());
        let query = Query::ListKeys { filters, viewer: None, window: 0..10, progress };
        match fixture.node.app.posts.query_shard(Call::new(), shard, query).await.unwrap() {
            Answer::Keys { keys: found, .. } => keys.extend(found),
            other => panic!("{other:?}"),
        }
    }
    keys.sort_by(|left, right| right.cmp(left));
    let times: Vec<Stamp> = keys.iter().map(|key| key.at).collect();
    assert_eq!(times, [Stamp(3_000_000), Stamp(2_000_000), Stamp(1_000_000)]);
    let comments: Vec<&String> =
        exported.iter().filter(|line| line.contains("\"comment\"")).collect();
    assert!(comments[0].contains("one") && comments[1].contains("two"), "{comments:?}");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_records_are_told_and_the_others_go_on() {
    let fixture = Fixture::new(1).await;
    let extreme = HASH.replace("m=19456", "m=999999");
    let records = lines(&format!(
        r#"
        {{"kind":"user","username":"ann","email":"a@example.com"}}
        {{"kind":"user","username":"bad name","email":"b@example.com"}}
        {{"kind":"user","username":"admin","email":"c@example.com"}}
        {{"kind":"user","username":"bob","email":"A@example.com"}}
        {{"kind":"user","username":"eve","email":"e@example.com","password_hash":"{extreme}"}}
        {{"kind":"user","username":"eva","email":"e@example.com","password":"x","password_hash":"{HASH}"}}
        {{"kind":"post","key":"k","author":"nobody","title":"t","description":"d","body":"b"}}
        {{"kind":"post","key":"k","author":"ann","title":" ","description":"d","body":"b"}}
        {{"kind":"post","key":"k","author":"ann","title":"t","description":"d","body":"b","created_at":"2111-01-01T00:00:00Z"}}
        {{"kind":"post","key":"k","author":"ann","title":"t","description":"d","body":"b","visibility":"scheduled"}}
        {{"kind":"favorite","user":"ann","post":"k"}}
        {{"kind":"follow","follower":"ann","followed":"ann"}}
        {{"kind":"post","key":"k2","author":"ANN","title":"t","description":"d","body":"b"}}
        {{"kind":"favorite","user":"ann","post":"k2"}}
        "#
    ));
    // Of two who want the same address at once, either may be the first.
    fixture.import(&records[..1]).await;
    let applied = fixture.import(&records).await;
    let told: Vec<(u64, &str)> =
        applied.problems.iter().map(|problem| (problem.line, &problem.reason[..])).collect();
    let expected = [
        (2, "username"),
        (3, "reserved"),
        (4, "email"),
        (5, "256 MiB"),
        (6, "not both"),
        (7, "`nobody`"),
        (8, "title can't be blank"),
        (9, "future"),
        (10, "publish_at"),
        (11, "`k`"),
        (12, "yourself"),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((line, reason), (expected_line, part)) in told.into_iter().zip(expected) {
        assert!(line == expected_line && reason.contains(part), "{line}: {reason}");
    }
    assert_eq!((applied.counts.posts.done, applied.counts.favorites.done), (1, 1));
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_that_was_deleted_stays_deleted() {
    let fixture = Fixture::new(1).await;
    let records = lines(
        r#"
        {"kind":"user","username":"ann","email":"a@example.com"}
        {"kind":"post","key":"k","author":"ann","title":"t","description":"d","body":"b"}
        {"kind":"comment","user":"ann","post":"k","body":"c"}
        {"kind":"favorite","user":"ann","post":"k"}
        "#,
    );
    assert_eq!(fixture.import(&records).await.problems, []);
    let app = &fixture.node.app;
    let key: ImportKey = crate::transfer::record::post_key("k").unwrap();
    let query = Query::FindImported { key };
    let found = app.posts.query(Call::new(), Bucket::of_key(&key.0), query).await.unwrap();
    let Answer::Imported(Some(post)) = found else { panic!("{found:?}") };
    let (id, _) = people::by_name(app, "ann").await.unwrap().unwrap();
    let editor = Reader { id, follows_author: false, blocked_by_author: false, link_token: None };
    let delete = Command::DeletePost { post, editor, if_version: None };
    app.posts.command(Call::new(), delete).await.unwrap();
    let applied = fixture.import(&records).await;
    assert_eq!(applied.problems, []);
    assert_eq!((applied.counts.posts.existed, applied.counts.posts.done), (1, 0));
    assert_eq!((applied.counts.comments.skipped, applied.counts.favorites.skipped), (1, 1));
    assert_eq!(fixture.export(false).await.len(), 1);
    fixture.stop().await;
}

/// An export keeps the ids of posts that were written here: what is deleted after it stays deleted
/// when it is imported again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_export_brings_no_deleted_post_back() {
    let fixture = Fixture::new(2).await;
    let user = lines(r#"{"kind":"user","username":"ann","email":"a@example.com"}"#);
    assert_eq!(fixture.import(&user).await.problems, []);
    let post = fixture.write("ann", "to be deleted", Visibility::Public).await;
    fixture.comment(post, "ann", "c").await;
    let read = format!(r#"{{"kind":"read","user":"ann","post":"{post}","at":1000}}"#);
    let mut exported = fixture.export(false).await;
    exported.push(read);
    let app = &fixture.node.app;
    let (id, _) = people::by_name(app, "ann").await.unwrap().unwrap();
    let editor = Reader { id, follows_author: false, blocked_by_author: false, link_token: None };
    let delete = Command::DeletePost { post, editor, if_version: None };
    app.posts.command(Call::new(), delete).await.unwrap();
    let applied = fixture.import(&exported).await;
    assert_eq!(applied.problems, []);
    let counts = applied.counts;
    assert_eq!((counts.posts.done, counts.posts.skipped), (0, 1));
    assert_eq!((counts.comments.skipped, counts.reads.skipped), (1, 1));
    assert_eq!(fixture.export(false).await.len(), 1);
    fixture.stop().await;
}

/// What a reader has read and wishes goes along, and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_choices_of_a_reader_are_exported_and_imported() {
    let first = Fixture::new(2).await;
    let records = lines(
        r#"
        {"kind":"user","username":"ann","email":"a@example.com","created_at":"2018-03-12T17:00:45Z"}
        {"kind":"post","key":"k","author":"ann","title":"t","description":"d","body":"b","created_at":"2018-03-12T17:00:45Z"}
        {"kind":"read","user":"ann","post":"k","at":1000}
        {"kind":"read","user":"ann","post":"k","at":2000,"depth":75}
        {"kind":"tag_follow","user":"ann","tag":"Rust"}
        {"kind":"tag_mute","user":"ann","tag":"go"}
        {"kind":"feedback","user":"ann","post":"k","what":"hide"}
        "#,
    );
    let applied = first.import(&records).await;
    assert_eq!(applied.problems, []);
    let counts = applied.counts;
    let done = [counts.reads, counts.tag_follows, counts.tag_mutes, counts.feedback];
    assert_eq!(done.map(|tally| tally.done), [2, 1, 1, 1]);
    let exported = first.export(false).await;
    for part in [
        r#""at":"1970-01-01T00:00:01Z"}"#,
        r#""at":"1970-01-01T00:00:02Z","depth":75}"#,
        r#"{"kind":"tag_follow","user":"ann","tag":"Rust"}"#,
        r#"{"kind":"tag_mute","user":"ann","tag":"go"}"#,
        r#""what":"hide"}"#,
    ] {
        assert!(exported.iter().any(|line| line.ends_with(part)), "{part}: {exported:?}");
    }
    let second = Fixture::new(1).await;
    assert_eq!(second.import(&exported).await.problems, []);
    assert_eq!(second.import(&exported).await.problems, [], "and once more");
    assert_eq!(sorted(second.export(false).await), sorted(exported));
    let bad = lines(
        r#"
        {"kind":"read","user":"ann","post":"k","at":1000,"depth":101}
        {"kind":"tag_follow","user":"ann","tag":" "}
        {"kind":"tag_mute","user":"nobody","tag":"go"}
        {"kind":"feedback","user":"ann","post":"unknown","what":"less"}
        {"kind":"read","user":"ann","post":"k","at":"2111-01-01T00:00:00Z"}
        "#,
    );
    let told = second.import(&bad).await.problems;
    for (problem, part) in told.iter().zip(["depth", "tag", "`nobody`", "`unknown`", "future"]) {
        assert!(problem.reason.contains(part), "{problem:?}");
    }
    assert_eq!(told.len(), 5);
    first.stop().await;
    second.stop().await;
}

/// The export stands in its first pass, for nobody reads it, while names change hands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_a_node_that_changes_names_everybody_as_at_first() {
    let fixture = Fixture::new(1).await;
    let bio = "x".repeat(2000);
    let mut records: Vec<String> = (0..150)
        .map(|n| {
            format!(
                r#"{{"kind":"user","username":"u{n}","email":"u{n}@example.com","bio":"{bio}"}}"#
            )
        })
        .collect();
    records.extend(lines(
        r#"
        {"kind":"follow","follower":"u1","followed":"u2"}
        {"kind":"follow","follower":"u2","followed":"u1"}
        {"kind":"post","key":"k","author":"u1","title":"t","description":"d","body":"b"}
        {"kind":"favorite","user":"u1","post":"k"}
        {"kind":"comment","user":"u1","post":"k","body":"c"}
        {"kind":"read","user":"u1","post":"k","at":1000}
        "#,
    ));
    assert_eq!(fixture.import(&records).await.problems, []);

    let exporting = fixture.start_export(false);
    while exporting.1.is_empty() {
        tokio::task::yield_now().await;
    }
    fixture.rename("u1", "renamed").await;
    let later = lines(
        r#"
        {"kind":"user","username":"u1","email":"later@example.com"}
        {"kind":"user","username":"u999","email":"u999@example.com"}
        {"kind":"follow","follower":"u2","followed":"u999"}
        {"kind":"post","key":"later","author":"u999","title":"t","description":"d","body":"b"}
        {"kind":"favorite","user":"u999","post":"k"}
        {"kind":"comment","user":"u1","post":"k","body":"of another u1"}
        {"kind":"read","user":"u2","post":"later","at":1000}
        "#,
    );
    assert_eq!(fixture.import(&later).await.problems, []);
    let exported = Fixture::finish_export(exporting).await;

    let is_edge = |line: &&String| !line.contains(r#""kind":"user""#);
    let edges: Vec<&String> = exported.iter().filter(is_edge).collect();
    assert_eq!(edges.len(), 6, "{edges:?}");
    for text in ["renamed", "later", "u999", "another"] {
        assert!(!edges.iter().any(|line| line.contains(text)), "{edges:?}");
    }
    assert_eq!(edges.iter().filter(|line| line.contains(r#""u1""#)).count(), 6);
    let other = Fixture::new(1).await;
    assert_eq!(other.import(&exported).await.problems, []);
    fixture.stop().await;
    other.stop().await;
}

/// What an import leaves behind that is killed between a claim and the creation of its user.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_that_was_cut_off_is_finished_at_once() {
    use crate::actors::user::message::{Attempt, ClaimKind, Command as UserCommand};
    let fixture = Fixture::new(1).await;
    let owner = crate::ids::UserId::new(Clock::system().now(), Bucket::new(5));
    let claim = UserCommand::Claim {
        kind: ClaimKind::Name,
        normal: "ann".to_owned(),
        owner,
        attempt: Attempt(1),
    };
    fixture.node.app.users.command(Call::new(), claim).await.unwrap();
    let line = lines(r#"{"kind":"user","username":"Ann","email":"a@example.com"}"#);
    let applied = fixture.import(&line).await;
    assert_eq!((applied.problems, applied.counts.users.done), (vec![], 1));
    let (user, _) = people::by_name(&fixture.node.app, "ann").await.unwrap().unwrap();
    assert_eq!(user, owner);
    fixture.stop().await;
}
