//! Many clients at once.

use std::collections::HashSet;

use serde_json::json;
use tokio::task::JoinSet;

use super::error;
use crate::support::people::{registration, slug};
use crate::support::{TestNode, register, with_each_layout};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_one_name_one_gets_it() {
    with_each_layout(async |node| {
        for field in ["username", "email"] {
            let mut tasks = JoinSet::new();
            for n in 0..64 {
                let mut client = node.client();
                let mut body = registration(&format!("{field}-{n}"));
                // Names that differ only in case are one name.
                let same = if n % 2 == 0 { "wanted" } else { "WANTED" };
                body["user"][field] = match field {
                    "username" => json!(same),
                    _ => json!(format!("{same}@example.org")),
                };
                tasks.spawn(async move {
                    loop {
                        let answer = client.post("/api/users", &body).await;
                        if answer.status != 503 {
                            return (answer.status, answer.json());
                        }
                        // So many passwords at once may be too many; then one is told to retry.
                        assert!(answer.header("retry-after").is_some(), "{answer:?}");
                    }
                });
            }
            let answers = tasks.join_all().await;
            let winners: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
            assert_eq!(winners.len(), 1, "{answers:?}");
            for (status, body) in answers.iter().filter(|(status, _)| *status != 201) {
                assert_eq!(*status, 409, "{body}");
                assert_eq!(*body, error(field, "has already been taken"));
            }
        }
        // Who lost left no claim behind on the other half.
        let mut client = node.client();
        for n in 0..64 {
            let mut body = registration(&format!("later-{n}"));
            body["user"]["email"] = json!(format!("username-{n}@example.org"));
            let answer = client.post("/api/users", &body).await;
            assert!([201, 409].contains(&answer.status), "{}", answer.text());
            if answer.status == 409 {
                let found = json!({"user": {
                    "email": format!("username-{n}@example.org"),
                    "password": crate::support::people::PASSWORD,
                }});
                client.post("/api/users/login", &found).await.expect(200);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_editors_the_later_wins() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("Shared", &[]).await;
        let path = format!("/api/articles/{slug}");
        let mut tasks = JoinSet::new();
        for editor in 0..8 {
            let mut client = node.client();
            client.set_token(jake.token());
            let path = path.clone();
            tasks.spawn(async move {
                let mut seen = Vec::new();
                for n in 0..10 {
                    let text = format!("{editor} {n}");
                    let body = json!({"article": {"description": text, "body": text}});
                    let answer = client.put(&path, &body).await.expect(200).json();
                    let time = answer["article"]["updatedAt"].as_str().unwrap().to_owned();
                    seen.push((time, answer["article"].clone()));
                }
                assert!(seen.is_sorted_by(|left, right| left.0 < right.0), "{seen:?}");
                seen
            });
        }
        let mut all = tasks.join_all().await.concat();
        // An answer may show an even later edit, but never a mixture of two.
        for (_, article) in &all {
            assert_eq!(article["description"], article["body"]);
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        let last = jake.get(&path).await.expect(200).json();
        assert_eq!(last["article"], all.last().unwrap().1);
        // One after the other: the later of two edits stands.
        for text in ["first", "second"] {
            jake.put(&path, &json!({"article": {"body": text}})).await.expect(200);
        }
        assert_eq!(jake.get(&path).await.expect(200).json()["article"]["body"], "second");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn totals_are_true_after_concurrent_creates_and_deletes() {
    const WRITERS: usize = 8;
    const EACH: usize = 20;
    with_each_layout(async |node| {
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let user = register(node, &format!("writer-{writer}")).await;
            tasks.spawn(write_and_delete(user, writer, EACH));
        }
        let mut expected: HashSet<String> = tasks.join_all().await.into_iter().flatten().collect();
        let (listed, total) = listed(node, "").await;
        assert_eq!(total as usize, expected.len());
        assert_eq!(listed.iter().cloned().collect::<HashSet<_>>(), expected);
        assert_eq!(listed.len(), expected.len(), "nothing is listed twice");
        for writer in 0..WRITERS {
            for filter in [format!("author=writer-{writer}&"), format!("tag=of-{writer}&")] {
                let (of_writer, total) = self::listed(node, &filter).await;
                assert_eq!(of_writer.len() as u64, total, "{filter}");
                for slug in of_writer.iter().filter(|_| filter.starts_with("author")) {
                    assert!(expected.remove(slug), "{filter} lists {slug}");
                }
            }
        }
        assert!(expected.is_empty());
    })
    .await;
}

/// Creates articles and deletes every third; the slugs that remain.
async fn write_and_delete(
    mut user: crate::support::User,
    writer: usize,
    each: usize,
) -> Vec<String> {
    let mut kept = Vec::new();
    for n in 0..each {
        let tag = format!("of-{writer}");
        let created = user.create(&format!("{writer} {n}"), &[tag.as_str(), "all"]).await;
        kept.push(slug(&created));
        if n % 3 == 2 {
            let gone = kept.remove(n % kept.len());
            user.delete(&format!("/api/articles/{gone}")).await.expect(204);
        }
    }
    kept
}

/// All slugs of a list, page by page, and the total that every page names.
async fn listed(node: &TestNode, filter: &str) -> (Vec<String>, u64) {
    let mut client = node.client();
    let mut slugs: Vec<String> = Vec::new();
    loop {
        let path = format!("/api/articles?{filter}limit=30&offset={}", slugs.len());
        let answer = client.get(&path).await.expect(200).json();
        let page = answer["articles"].as_array().unwrap();
        if page.is_empty() {
            return (slugs, answer["articlesCount"].as_u64().unwrap());
        }
        slugs.extend(page.iter().map(slug));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn favorites_of_many_are_all_counted() {
    with_each_layout(async |node| {
        let mut author = register(node, "author").await;
        let slug = author.create_slug("Liked", &[]).await;
        let path = format!("/api/articles/{slug}/favorite");
        let mut tasks = JoinSet::new();
        for n in 0..16 {
            let mut user = register(node, &format!("reader-{n}")).await;
            let path = path.clone();
            tasks.spawn(async move {
                for _ in 0..4 {
                    let answer = user.post_nothing(&path).await.expect(200).json();
                    assert_eq!(answer["article"]["favorited"], true);
                    let answer = user.delete(&path).await.expect(200).json();
                    assert_eq!(answer["article"]["favorited"], false);
                }
                if n % 2 == 0 {
                    user.post_nothing(&path).await.expect(200);
                }
            });
        }
        tasks.join_all().await;
        let seen = author.get(&format!("/api/articles/{slug}")).await.expect(200).json();
        assert_eq!(seen["article"]["favoritesCount"], 8);
    })
    .await;
}
