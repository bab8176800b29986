//! Bytes are a contract: what was written once is read for ever, and no bytes cause a panic.

use std::fmt::Debug;

use bytes::Bytes;
use proptest::prelude::*;

use super::support::*;
use crate::actors::post::event::Event;
use crate::actors::post::lists::{ListId, Scope, Shelf, sort_key_of};
use crate::actors::post::message::{Command, Error, ImportKey, Reply, SortKey, Visibility};
use crate::actors::post::tables::*;
use crate::actors::state_machine::Count;
use crate::ids::{Bucket, PostId, Stamp};
use crate::store::codec::{Record, decode, encode};

fn golden<R: Record + PartialEq + Debug>(record: &R, bytes: &[u8]) {
    assert_eq!(encode(record), bytes);
    assert_eq!(&decode::<R>(bytes).unwrap(), record);
}

#[test]
fn golden_bytes_of_rows() {
    let row = SummaryRow {
        author: ANN,
        title: "T".into(),
        description: String::new(),
        tags: vec!["é".into()],
        visibility: Visibility::Scheduled,
        created_at: Stamp(300),
        updated_at: Stamp(5),
        published_at: None,
        publish_at: Some(Stamp(9)),
        link_token: TOKEN,
        version: 2,
        import: Some(ImportKey([3; 16])),
    };
    let head = [36, 1, 1, 1, b'T', 0, 1, 2, 195, 169, 3, 251, 44, 1, 5, 0, 1, 9];
    golden(&row, &[&head[..], &TOKEN, &[2, 1], &[3; 16]].concat());
    let (row, body) = encode_body("é");
    assert_eq!(body.text().as_deref(), Some("é"));
    assert_eq!(row, [37, 2, b'"', 195, 169, b'"'][..]);
    let of_an_earlier_program = Bytes::from_static(&[37, 1, 195, 169]);
    for row in [row, of_an_earlier_program] {
        let body = decode_body(&row).unwrap();
        assert_eq!((&body.json()[..], body.text().as_deref()), ("\"é\"".as_bytes(), Some("é")));
    }
    for damaged in
        [&[37, 2][..], &[37, 2, b'"'], &[37, 2, b'"', 195, b'"'], &[37, 1, 195], &[37, 3]]
    {
        decode_body(&Bytes::from_static(damaged)).unwrap_err();
    }
    golden(&FavoriteRow { at: Stamp(5) }, &[38, 1, 5]);
    golden(&Count(300), &[39, 1, 251, 44, 1]);
    golden(&ListRow { author: BOB }, &[40, 1, 2]);
    let (created_at, updated_at) = (Stamp(5), Stamp(6));
    let row = CommentRow { author: BOB, body: "C".into(), created_at, updated_at };
    golden(&row, &[41, 1, 2, 1, b'C', 5, 6]);
    golden(&CommentNumberRow { last: 7, bytes: 9 }, &[42, 1, 7, 9]);
    golden(&TagRow { shown: "X".into(), posts: 3 }, &[43, 1, 1, b'X', 3]);
    golden(&ImportRow::Post(PostId(9)), &[44, 1, 0, 9]);
    golden(&ImportRow::Comment { number: 1, created_at: Stamp(5) }, &[44, 1, 1, 1, 5]);
    golden(&ScheduleRow, &[45, 1]);
    golden(&TombstoneRow { version: 3, deleted_at: Stamp(5) }, &[46, 1, 3, 5]);
    golden(&TagsVersionRow { version: Stamp(5) }, &[47, 1, 5]);
}

#[test]
fn golden_bytes_of_keys() {
    let key = SortKey { at: Stamp(1), post: PostId(2) };
    let place = [255, 255, 255, 255, 255, 255, 255, 254, 255, 255, 255, 255, 255, 255, 255, 253];
    let ann = [0, 0, 0, 0, 0, 0, 0, 1];
    let list = |shelf, scope| ListId::new(shelf, scope).row_key(key);
    assert_eq!(list(Shelf::All, Scope::Public), [&[0, 0][..], &place].concat());
    let tagged = list(Shelf::Tag("é".into()), Scope::Own(ANN));
    assert_eq!(tagged, [&[1, 0, 0, 0, 2, 195, 169, 1][..], &ann, &place].concat());
    let own = [&[2][..], &ann, &[1], &ann, &place].concat();
    assert_eq!(list(Shelf::Author(ANN), Scope::Own(ANN)), own);
    assert_eq!(list(Shelf::All, Scope::Own(ANN)), own, "kept once");
    let favored = list(Shelf::FavoritedBy(ANN), Scope::PublicOf(ANN));
    assert_eq!(favored, [&[3][..], &ann, &[2], &ann, &place].concat());
    let fed = list(Shelf::ForFollowers(ANN), Scope::Public);
    assert_eq!(fed, [&[4][..], &ann, &[0], &place].concat());
    assert_eq!(sort_key_of(&fed).unwrap(), key);
    let bob = [0, 0, 0, 0, 0, 0, 0, 2];
    let count = |shelf, scope| ListId::new(shelf, scope).count_key();
    assert_eq!(count(Shelf::All, Scope::Public), [0, 0]);
    let tagged = count(Shelf::Tag("é".into()), Scope::PublicOf(ANN));
    assert_eq!(tagged, [&ann[..], &[1, 2, 195, 169]].concat());
    assert_eq!(count(Shelf::Author(ANN), Scope::Public), [&ann[..], &[2, 0]].concat());
    let own = [&ann[..], &[2, 1], &ann].concat();
    assert_eq!(count(Shelf::All, Scope::Own(ANN)), own);
    let favored = count(Shelf::FavoritedBy(ANN), Scope::PublicOf(BOB));
    assert_eq!(favored, [&ann[..], &[3, 2], &bob].concat());
    assert_eq!(count(Shelf::ForFollowers(ANN), Scope::Public), [&ann[..], &[4, 0]].concat());
    assert_eq!(use_key(3, "x"), [255, 252, b'x']);
    assert_eq!(schedule_key(Stamp(1), PostId(2)), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(import_key(None, &[7; 16]), [&[0][..], &[7; 16]].concat());
    assert_eq!(import_key(Some(PostId(1)), &[7; 16]), [&[1][..], &ann, &[7; 16]].concat());
}

#[test]
fn golden_bytes_of_a_command_and_a_reply() {
    let command = Command::AddComment {
        post: PostId(9),
        reader: crate::actors::post::message::Reader {
            follows_author: true,
            link_token: Some(TOKEN),
            ..reader(BOB)
        },
        body: "C".into(),
        created_at: Some(Stamp(5)),
        import: Some(ImportKey([3; 16])),
    };
    let head = [32, 1, 6, 9, 2, 1, 0, 1];
    golden(&command, &[&head[..], &TOKEN, &[1, b'C', 1, 5, 1], &[3; 16]].concat());
    golden(&Command::PublishDue { bucket: Bucket::new(5) }, &[32, 1, 8, 5]);
    golden(&Command::ImportFavorite { post: PostId(9), user: BOB }, &[32, 1, 9, 9, 2]);
    let command = Command::Favor { post: PostId(9), reader: reader(BOB), on: true };
    golden(&command, &[32, 1, 10, 9, 2, 0, 0, 0, 1]);
    golden(&Reply::Favorites(3), &[33, 1, 3, 3]);
    golden(&Reply::Post { id: PostId(9), version: 2 }, &[33, 1, 1, 9, 2]);
    golden(&Error::VersionMismatch { current: 2 }, &[34, 1, 4, 2]);
    golden(&Event::CommentAdded { post: PostId(9), user: BOB, number: 1 }, &[35, 1, 3, 9, 2, 1]);
}

fn decodes_or_refuses<R: Record>(bytes: &[u8]) {
    let _ = decode::<R>(bytes);
    let _ = decode::<R>(&[&[R::KIND, R::VERSION], bytes].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        decodes_or_refuses::<SummaryRow>(&bytes);
        decodes_or_refuses::<FavoriteRow>(&bytes);
        decodes_or_refuses::<Count>(&bytes);
        decodes_or_refuses::<ListRow>(&bytes);
        decodes_or_refuses::<CommentRow>(&bytes);
        decodes_or_refuses::<CommentNumberRow>(&bytes);
        decodes_or_refuses::<TagRow>(&bytes);
        decodes_or_refuses::<ImportRow>(&bytes);
        decodes_or_refuses::<ScheduleRow>(&bytes);
        decodes_or_refuses::<TombstoneRow>(&bytes);
        decodes_or_refuses::<TagsVersionRow>(&bytes);
        decodes_or_refuses::<Command>(&bytes);
        decodes_or_refuses::<Reply>(&bytes);
        decodes_or_refuses::<Error>(&bytes);
        decodes_or_refuses::<Event>(&bytes);
        for head in [&[][..], &[37, 1], &[37, 2], &[37, 2, b'"']] {
            if let Ok(body) = decode_body(&[head, &bytes, b"\""].concat().into()) {
                let _ = body.text();
            }
        }
    }

    #[test]
    fn arbitrary_keys_are_read_or_refused(key: Vec<u8>) {
        let _ = sort_key_of(&key);
        let _ = post_of_key(&key);
        let _ = user_of_favorite_key(&key);
        let _ = number_of_comment_key(&key);
        let _ = due_of_key(&key);
        let _ = tag_of_use_key(&key);
    }

    #[test]
    fn keys_are_in_the_order_of_lists(places: Vec<(u64, u64)>) {
        let list = ListId::new(Shelf::All, Scope::Public);
        let mut places: Vec<_> =
            places.iter().map(|(at, post)| SortKey { at: Stamp(*at), post: PostId(*post) }).collect();
        places.sort_by(|left, right| right.cmp(left));
        let keys: Vec<_> = places.iter().map(|place| list.row_key(*place)).collect();
        prop_assert!(keys.is_sorted());
        for (key, place) in keys.iter().zip(&places) {
            prop_assert_eq!(sort_key_of(key).unwrap(), *place);
        }
    }
}
