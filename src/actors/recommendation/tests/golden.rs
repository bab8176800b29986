//! The bytes of everything that is stored.

use super::*;

fn golden<R: Record + PartialEq + std::fmt::Debug>(record: &R, bytes: &[u8]) {
    assert_eq!(encode(record), bytes);
    assert_eq!(&decode::<R>(bytes).unwrap(), record);
}

#[test]
fn golden_bytes_stay() {
    let (reader, post) = (UserId(2), PostId(9));
    let fact = Fact::PostChanged {
        post,
        author: Some(UserId(3)),
        version: 4,
        is_listed: true,
        published_at: Stamp(300),
        tags: vec!["é".into()],
        signature: Signature([5, 6]),
    };
    let bytes = [64, 1, 0, 0, 9, 1, 3, 4, 1, 251, 44, 1, 1, 2, 195, 169, 5, 6];
    golden(&Command::Observe { fact }, &bytes);
    let facts = [
        (Fact::PostDeleted { post }, vec![1, 9]),
        (interacted_at(reader, post), vec![2, 2, 9, 1, 5]),
        (Fact::ReadForgotten { reader, post }, vec![3, 2, 9]),
        (Fact::ReaderErased { reader }, vec![4, 2]),
        (Fact::AuthorFollowed { reader, author: UserId(3), is_on: true }, vec![5, 2, 3, 1]),
        (Fact::AuthorMuted { reader, author: UserId(3), is_on: false }, vec![6, 2, 3, 0]),
        (Fact::TagFollowed { reader, tag: "t".into(), is_on: true }, vec![7, 2, 1, b't', 1]),
        (Fact::TagMuted { reader, tag: "t".into(), is_on: true }, vec![8, 2, 1, b't', 1]),
        (Fact::Feedback { reader, post, what: Feedback::Less }, vec![9, 2, 9, 1]),
        (Fact::Shown { reader, posts: vec![post] }, vec![10, 2, 1, 9]),
        (Fact::Blocked { user: reader, target: UserId(3), is_on: true }, vec![11, 2, 3, 1]),
        (Fact::Denied { post, version: 4 }, vec![12, 9, 4]),
        (Fact::FeedbackWithdrawn { reader, post }, vec![13, 2, 9]),
    ];
    for (fact, bytes) in facts {
        golden(&Command::Observe { fact }, &[&[64, 1, 0][..], &bytes].concat());
    }
    let weights = Command::SetWeights { version: 7, values: vec![1.0] };
    golden(&weights, &[64, 1, 1, 7, 1, 0, 0, 128, 63]);
    let exposure = Exposure {
        request: "r".into(),
        reader: Some(reader),
        surface: "s".into(),
        variant: "v".into(),
        weights_version: 7,
        posts: vec![ShownPost { post, position: 1, propensity: 0.5, is_explored: true }],
    };
    let bytes = [64, 1, 2, 1, 1, b'r', 1, 2, 1, b's', 1, b'v', 7, 1, 9, 1, 0, 0, 0, 63, 1];
    golden(&Command::LogExposures { exposures: vec![exposure] }, &bytes);
    golden(&Command::BeginRebuild, &[64, 1, 3]);
    let facts = vec![Fact::PostDeleted { post }];
    golden(&Command::CopyFacts { rebuild: 7, facts }, &[64, 1, 4, 7, 1, 1, 9]);
    golden(&Command::FinishRebuild { rebuild: 7 }, &[64, 1, 5, 7]);
    golden(&Command::Repair { fact: Fact::PostDeleted { post } }, &[64, 1, 7, 1, 9]);
    golden(&Reply::Done, &[65, 1, 0]);
    golden(&Reply::Rebuild(7), &[65, 1, 1, 7]);
    golden(&Reply::Left(9), &[65, 1, 2, 9]);
    golden(&Error::UnsoundWeights, &[66, 1, 0]);
    golden(&Error::NoRebuild, &[66, 1, 1]);
}
