//! Bytes that files and logs of older programs hold.

use std::fmt::Debug;

use proptest::prelude::*;

use crate::actors::user::event::Event;
use crate::actors::user::message::{Attempt, Command, Depth, Error, Feedback, Read, Reply, Tag};
use crate::actors::user::tables::{
    ClaimRow, EdgeCountRow, FeedbackRow, HistorySizeRow, NOWHERE, ReadRow, TagRow, UserRow,
    feedback_key, feedback_post, history_entry, history_key, tag_key, tag_of_key,
};
use crate::ids::{PostId, Stamp, UserId};
use crate::store::codec::{Record, decode, encode};

const ANN: UserId = UserId(1);
const POST: PostId = PostId(300);

fn golden<R: Record + PartialEq + Debug>(record: &R, bytes: &[u8]) {
    assert_eq!(encode(record), bytes, "{record:?}");
    assert_eq!(&decode::<R>(bytes).unwrap(), record);
}

#[test]
fn golden_bytes_of_rows_stay() {
    let row = UserRow {
        username: "D".into(),
        name_normal: "d".into(),
        name_attempt: Attempt(1),
        email: "d@e".into(),
        email_normal: "d@e".into(),
        email_attempt: Attempt(2),
        password_hash: None,
        bio: Some("b".into()),
        image: None,
        token_generation: 1,
        created_at: Stamp(300),
    };
    let bytes = [
        20, 1, 1, 68, 1, 100, 1, 3, 100, 64, 101, 3, 100, 64, 101, 2, 0, 1, 1, 98, 0, 1, 251, 44, 1,
    ];
    golden(&row, &bytes);
    golden(&ReadRow { depth: None }, &[22, 1, 0]);
    golden(&ReadRow { depth: Depth::new(100) }, &[22, 1, 1, 100]);
    let oldest = (Stamp(5), POST);
    golden(&HistorySizeRow { reads: 7, oldest }, &[23, 1, 7, 5, 251, 44, 1]);
    golden(&TagRow { shown: "É".into() }, &[24, 1, 2, 195, 137]);
    golden(&FeedbackRow { what: Feedback::Hide, at: Stamp(5) }, &[25, 1, 1, 5]);
    golden(&EdgeCountRow { edges: 7 }, &[26, 1, 7]);
}

#[test]
fn golden_bytes_of_keys_stay() {
    let ann = [0, 0, 0, 0, 0, 0, 0, 1];
    let post = [0, 0, 0, 0, 0, 0, 1, 44];
    let key = history_key(ANN, Stamp(5), POST);
    assert_eq!(key, [ann, [0, 0, 0, 0, 0, 0, 0, 5], post].concat()[..]);
    assert_eq!(history_entry(&key), Some((Stamp(5), POST)));
    assert!(history_key(ANN, NOWHERE.0, NOWHERE.1) > key);
    let key = tag_key(ANN, "é");
    assert_eq!(key, [&ann[..], &[195, 169]].concat());
    assert_eq!(tag_of_key(&key), Some("é"));
    let key = feedback_key(ANN, POST);
    assert_eq!(key, [ann, post].concat()[..]);
    assert_eq!(feedback_post(&key), Some(POST));
}

#[test]
fn golden_bytes_of_commands_and_replies_stay() {
    let (user, post, on) = (ANN, POST, true);
    let tag = || Tag { shown: "É".into(), normal: "é".into() };
    golden(&Command::RecordRead { user, post, at: Stamp(5) }, &[16, 1, 9, 1, 251, 44, 1, 5]);
    let reads = vec![
        Some(Read { post, at: Stamp(5), depth: Depth::new(40) }),
        None,
        Some(Read { post, at: Stamp(6), depth: None }),
    ];
    golden(
        &Command::RecordReads { user, reads },
        &[16, 1, 10, 1, 3, 1, 251, 44, 1, 5, 1, 40, 0, 1, 251, 44, 1, 6, 0],
    );
    golden(&Command::ForgetRead { user, post }, &[16, 1, 11, 1, 251, 44, 1]);
    golden(&Command::ForgetHistory { user }, &[16, 1, 12, 1]);
    golden(
        &Command::SetTagFollow { user, tag: tag(), on },
        &[16, 1, 13, 1, 2, 195, 137, 2, 195, 169, 1],
    );
    golden(
        &Command::SetTagMute { user, tag: tag(), on: false },
        &[16, 1, 14, 1, 2, 195, 137, 2, 195, 169, 0],
    );
    let what = Feedback::Less;
    golden(&Command::GiveFeedback { user, post, what }, &[16, 1, 15, 1, 251, 44, 1, 0]);
    golden(&Command::WithdrawFeedback { user, post }, &[16, 1, 16, 1, 251, 44, 1]);
    let recorded = Reply::Recorded { new: 3, unseen: vec![1], ahead: vec![0, 2] };
    golden(&recorded, &[17, 1, 4, 3, 1, 1, 2, 0, 2]);
    golden(&Reply::Forgotten { more: true }, &[17, 1, 5, 1]);
    golden(&Error::TooManyTags(500), &[18, 1, 8, 251, 244, 1]);
    golden(&Error::TooManyReads(1_000), &[18, 1, 9, 251, 232, 3]);
    golden(&Command::RefuseUnseen { user }, &[16, 1, 17, 1]);
    golden(&Error::PostNotFound, &[18, 1, 10]);
}

#[test]
fn golden_bytes_of_events_stay() {
    let (user, target, post) = (ANN, UserId(2), POST);
    let (tag, on) = ("é".to_owned(), true);
    golden(&Event::UserCreated { user }, &[19, 1, 0, 1]);
    golden(&Event::FollowChanged { user, target, on }, &[19, 1, 1, 1, 2, 1]);
    golden(&Event::MuteChanged { user, target, on }, &[19, 1, 2, 1, 2, 1]);
    golden(&Event::BlockChanged { user, target, on }, &[19, 1, 3, 1, 2, 1]);
    golden(&Event::PostRead { user, post, at: Stamp(5) }, &[19, 1, 4, 1, 251, 44, 1, 5]);
    let followed = Event::TagFollowChanged { user, tag: tag.clone(), on };
    golden(&followed, &[19, 1, 5, 1, 2, 195, 169, 1]);
    let muted = Event::TagMuteChanged { user, tag, on: false };
    golden(&muted, &[19, 1, 6, 1, 2, 195, 169, 0]);
    let given = |what| Event::FeedbackGiven { user, post, what };
    golden(&given(Feedback::Less), &[19, 1, 7, 1, 251, 44, 1, 0]);
    golden(&given(Feedback::Hide), &[19, 1, 7, 1, 251, 44, 1, 1]);
    golden(&Event::ReadForgotten { user, post }, &[19, 1, 8, 1, 251, 44, 1]);
    golden(&Event::FeedbackWithdrawn { user, post }, &[19, 1, 9, 1, 251, 44, 1]);
}

#[test]
fn a_depth_is_at_most_the_whole() {
    assert!(decode::<ReadRow>(&[22, 1, 1, 101]).is_err());
    assert_eq!(Depth::new(101), None);
}

fn decodes_or_refuses<R: Record>(bytes: &[u8]) {
    let _ = decode::<R>(bytes);
    let _ = decode::<R>(&[&[R::KIND, R::VERSION], bytes].concat());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        decodes_or_refuses::<Command>(&bytes);
        decodes_or_refuses::<Reply>(&bytes);
        decodes_or_refuses::<Error>(&bytes);
        decodes_or_refuses::<Event>(&bytes);
        decodes_or_refuses::<UserRow>(&bytes);
        decodes_or_refuses::<ClaimRow>(&bytes);
        decodes_or_refuses::<ReadRow>(&bytes);
        decodes_or_refuses::<HistorySizeRow>(&bytes);
        decodes_or_refuses::<TagRow>(&bytes);
        decodes_or_refuses::<FeedbackRow>(&bytes);
        let _ = (history_entry(&bytes), tag_of_key(&bytes), feedback_post(&bytes));
    }

    #[test]
    fn a_batch_of_reads_comes_back(sent in prop::collection::vec((0_u64.., 0_u64.., 0_u8..=101), 0..40)) {
        let read = |(post, at, depth)| {
            let depth = Depth::new(depth);
            (post > 9).then_some(Read { post: PostId(post), at: Stamp(at), depth })
        };
        let reads = sent.into_iter().map(read).collect();
        let command = Command::RecordReads { user: ANN, reads };
        prop_assert_eq!(decode::<Command>(&encode(&command)).unwrap(), command);
    }
}
