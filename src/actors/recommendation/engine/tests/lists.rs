//! What must hold of the lists that questions are answered with.

use super::*;

#[test]
fn memory_of_one_question_says_nothing_in_the_next() {
    let (reader, author) = (UserId(7), UserId(AUTHORS + 1));
    let engine = engine(&[
        post(1, 1, 1, &["a"]),
        post(2, 2, 2, &["a"]),
        read(8, 1, 3),
        read(8, 2, 4),
        Event::AuthorFollowed { reader, author, is_on: true },
        Event::TagFollowed { reader, tag: "a".to_owned(), is_on: true },
    ]);
    let mut scratch = Scratch::default();
    let followed = engine.recommend(reader, at(5), &plain(), &mut scratch);
    assert!(followed.items.iter().any(|item| item.reason == Reason::Follows(author)));
    let anonymous = engine.recommend_session(&[], at(5), &plain(), &mut scratch);
    let related = engine.related(PostId(1), None, at(5), &plain(), &mut scratch);
    assert_eq!((anonymous.items.len(), ids(&related)), (2, vec![2]));
    for item in anonymous.items.iter().chain(&related.items) {
        assert!(!matches!(item.reason, Reason::Follows(_) | Reason::FollowsTag(_)));
    }
}
