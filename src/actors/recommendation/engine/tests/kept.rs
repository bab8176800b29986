//! Lists that are kept for readers who ask again.

use super::*;
use crate::actors::recommendation::engine::KeptLists;

/// A place to ask again, with what is kept.
struct Site {
    engine: Engine,
    kept: KeptLists,
    scratch: Scratch,
}

impl Site {
    fn new(events: &[Event]) -> Self {
        Self { engine: engine(events), kept: KeptLists::default(), scratch: Scratch::default() }
    }

    fn apply(&mut self, event: &Event) {
        self.engine.apply(event);
        self.kept.note(&self.engine, event);
    }

    fn ask(&mut self, reader: u64, seconds: u64, options: &Options<'_>) -> Recommendations {
        let Self { engine, kept, scratch } = self;
        engine.recommend_again(UserId(reader), at(seconds), options, scratch, kept)
    }

    fn anew(&mut self, reader: u64, seconds: u64, options: &Options<'_>) -> Recommendations {
        self.engine.recommend(UserId(reader), at(seconds), options, &mut self.scratch)
    }

    /// Whether this question is answered from what is kept.
    fn is_kept(&mut self, reader: u64, seconds: u64) -> bool {
        let before = self.kept.made();
        self.ask(reader, seconds, &plain());
        self.kept.made() == before
    }
}

const END: u64 = 60_000;

fn site() -> Site {
    Site::new(&stream(3, 3_000))
}

#[test]
fn a_list_that_is_kept_is_the_one_that_a_ranking_finds() {
    let mut site = site();
    let kinds = [(10, false, 0), (40, false, 0), (10, true, 2), (40, true, 1)];
    for (reader, (limit, is_diverse, explore)) in
        (0..60).flat_map(|reader| kinds.map(|kind| (reader, kind)))
    {
        site.ask(reader, END, &plain());
        let options = Options { limit, is_diverse, explore, random: reader, ..plain() };
        let before = site.kept.made();
        let (kept, anew) = (site.ask(reader, END, &options), site.anew(reader, END, &options));
        assert_eq!(kept, anew, "reader {reader}, {limit}");
        assert_eq!(site.kept.made(), before, "no list was made for it");
    }
}

#[test]
fn further_pages_go_on_in_the_list_that_is_kept() {
    let mut site = site();
    let all = Options { limit: 50, ..plain() };
    for reader in 0..60 {
        let list: Vec<PostId> =
            site.ask(reader, END, &all).items.iter().map(|item| item.post).collect();
        let before = site.kept.made();
        for seen in [10, 20, 30] {
            let page = Options { limit: 10, exclude: &list[..seen], ..plain() };
            let page = site.ask(reader, END, &page).items;
            assert!(page.iter().map(|item| item.post).eq(list[seen..seen + 10].iter().copied()));
        }
        assert_eq!(site.kept.made(), before, "no list was made for it");
        // Behind the end of what is kept all is ranked.
        let beyond = Options { limit: 50, exclude: &list, ..plain() };
        assert_eq!(site.ask(reader, END, &beyond), site.anew(reader, END, &beyond));
    }
}

#[test]
fn whatever_a_reader_does_makes_a_new_list() {
    let (reader, post, other) = (UserId(5), PostId(290), UserId(AUTHORS + 3));
    let (author, tag, is_on) = (other, "red".to_owned(), true);
    let is_off = false;
    let deeds = [
        read(5, 290, END),
        Event::ReadForgotten { reader, post },
        Event::AuthorFollowed { reader, author, is_on },
        Event::AuthorMuted { reader, author, is_on },
        Event::TagFollowed { reader, tag: tag.clone(), is_on },
        Event::TagMuted { reader, tag, is_on },
        Event::Feedback { reader, post, what: Feedback::Less },
        Event::FeedbackWithdrawn { reader, post },
        Event::Blocked { user: reader, target: other, is_on },
        Event::Blocked { user: other, target: reader, is_on: is_off },
        Event::ReaderErased { reader },
    ];
    let mut site = site();
    for deed in deeds {
        site.ask(5, END, &plain());
        assert!(site.is_kept(5, END), "before {deed:?}");
        site.apply(&deed);
        assert!(!site.is_kept(5, END), "{deed:?}");
        assert_eq!(site.ask(5, END, &plain()), site.anew(5, END, &plain()), "{deed:?}");
    }
    site.apply(&read(6, 290, END));
    assert!(site.is_kept(5, END), "what others do waits");
    assert!(!site.is_kept(5, END + 30), "but not for long");
    assert!(!site.is_kept(5, END - 1), "nor does a clock that was set back make it wait");
}

#[test]
fn what_is_published_is_in_the_next_list_and_what_is_hidden_is_not() {
    let mut site = site();
    let (reader, author) = (UserId(5), UserId(AUTHORS + 70));
    site.apply(&Event::AuthorFollowed { reader, author, is_on: true });
    let first = ids(&site.ask(5, END, &plain()))[0];
    site.apply(&post(9_000, 70, END, &["red"]));
    site.apply(&changed(first, 1, 9, false, 0, &[]));
    let next = site.ask(5, END, &plain());
    let found = next.items.iter().find(|item| item.post == PostId(9_000)).expect("it is new");
    assert_eq!((&found.reason, found.source), (&Reason::Follows(author), Source::FollowedAuthor));
    assert!(!ids(&next).contains(&first), "it is hidden");
    let ranked = |list: &Recommendations| -> Vec<(u64, u32)> {
        list.items.iter().map(|item| (item.post.0, item.score.to_bits())).collect()
    };
    assert_eq!(ranked(&next), ranked(&site.anew(5, END, &plain())), "where a ranking puts it");
    assert!(site.is_kept(5, END), "and it is kept there");
    assert!(ids(&site.ask(5, END, &plain())).contains(&9_000));
    // A version of it that this reader does not want to see.
    let other = UserId(6);
    site.apply(&Event::AuthorFollowed { reader: other, author, is_on: true });
    site.apply(&Event::TagMuted { reader: other, tag: "dull".to_owned(), is_on: true });
    assert!(ids(&site.ask(6, END, &plain())).contains(&9_000));
    site.apply(&changed(9_000, 70, 2, true, END, &["dull"]));
    assert!(!ids(&site.ask(6, END, &plain())).contains(&9_000));
    assert_eq!(ids(&site.ask(5, END, &plain())), ids(&site.anew(5, END, &plain())));
    site.apply(&Event::PostDeleted { post: PostId(9_000) });
    assert!(!ids(&site.ask(5, END, &plain())).contains(&9_000));
}

#[test]
fn new_posts_are_explored_from_a_kept_list_and_known_ones_no_more() {
    let mut site = site();
    let explore = |random| Options { random, ..Options::default() };
    site.ask(5, END, &explore(0));
    site.apply(&post(9_000, 70, END, &[]));
    let explored = |site: &mut Site| -> Vec<u64> {
        let lists = (0..200).map(|random| site.ask(5, END, &explore(random)));
        let items = lists.flat_map(|list| list.items);
        let tried = items.filter(|item| item.source == Source::Exploration);
        tried.map(|item| item.post.0).collect()
    };
    assert!(explored(&mut site).contains(&9_000));
    for reader in 1_000..1_060 {
        let posts = vec![PostId(9_000)];
        site.apply(&Event::Shown { reader: UserId(reader), posts });
    }
    let found = explored(&mut site);
    assert!(!found.is_empty() && !found.contains(&9_000), "as many have seen it as are to");
}

#[test]
fn lists_have_a_bound_and_too_many_news_make_a_new_one() {
    let mut site = site();
    for reader in 0..9_000 {
        site.apply(&read(reader + 100, reader % 300, END));
        site.ask(reader + 100, END, &plain());
        assert!(site.is_kept(100, END), "who asks again");
    }
    assert!(!site.is_kept(101, END), "the first ones made room");
    assert!(site.is_kept(5_099, END));
    (0..60).for_each(|n| site.apply(&post(8_000 + n, n, END, &[])));
    let (first, before) = (ids(&site.ask(5_099, END, &plain())), site.kept.made());
    assert_eq!(ids(&site.anew(5_099, END, &plain())), first, "sixty are ranked with the others");
    (0..70).for_each(|n| site.apply(&post(8_100 + n, n, END, &[])));
    site.ask(5_099, END, &plain());
    assert_eq!(site.kept.made(), before + 1);
}
