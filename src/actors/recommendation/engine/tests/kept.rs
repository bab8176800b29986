//! Lists that are kept for readers who ask again.

use super::*;
use crate::actors::recommendation::engine::{KeptLists, rules};

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

    fn rankings(&self) -> u64 {
        self.kept.counts().0
    }

    /// Whether this question is answered from what is kept.
    fn is_kept(&mut self, reader: u64, seconds: u64) -> bool {
        let before = self.rankings();
        self.ask(reader, seconds, &plain());
        self.rankings() == before
    }
}

const END: u64 = 60_000;

fn site() -> Site {
    Site::new(&stream(3, 3_000))
}

#[test]
fn a_list_that_is_kept_is_the_one_that_a_ranking_finds() {
    let mut site = site();
    let kinds =
        [(10, false, 0), (40, false, 0), (1, true, 0), (10, true, 2), (30, true, 0), (40, true, 1)];
    for (reader, (limit, is_diverse, explore)) in
        (0..60).flat_map(|reader| kinds.map(|kind| (reader, kind)))
    {
        site.ask(reader, END, &plain());
        let options = Options { limit, is_diverse, explore, random: reader, ..plain() };
        let before = site.rankings();
        let (kept, anew) = (site.ask(reader, END, &options), site.anew(reader, END, &options));
        assert_eq!(kept, anew, "reader {reader}, {limit}");
        assert_eq!(site.rankings(), before, "nothing was ranked for it");
    }
}

#[test]
fn what_is_chosen_among_a_few_is_chosen_among_all_unless_it_says_otherwise() {
    let Site { engine, mut scratch, .. } = site();
    let (mut alike, mut further) = (0, 0);
    for (reader, limit) in (0..60).flat_map(|reader| [1, 5, 10, 15].map(|limit| (reader, limit))) {
        engine.ask(UserId(reader), at(END), &[], &mut scratch);
        engine.score(&Weights::default(), Method::Ranker, &mut scratch);
        for (is_diverse, explore) in [(false, 0), (true, 0), (true, 2)] {
            let options = Options { limit, is_diverse, explore, random: reader, ..plain() };
            let all = rules::choose(&engine, &options, Method::Ranker, &mut scratch);
            for most in [limit, limit + 3, limit + 10] {
                let few =
                    rules::choose_among(&engine, &options, Method::Ranker, most, &mut scratch);
                let places = |choice: &rules::Choice| -> Vec<(u16, u32)> {
                    let chosen = choice.chosen.iter();
                    chosen.map(|chosen| (chosen.index, chosen.propensity.to_bits())).collect()
                };
                if few.saw_all {
                    further += 1;
                } else {
                    assert_eq!(places(&few), places(&all), "reader {reader}, {limit} of {most}");
                    alike += 1;
                }
            }
        }
    }
    assert!(alike > 100 && further > 100, "{alike} alike, {further} looked further");
}

#[test]
fn reasons_are_those_of_the_reader_who_asks() {
    let mut site = site();
    let (tag, author, is_on) = ("red".to_owned(), UserId(AUTHORS + 70), true);
    site.apply(&post(9_000, 70, END, &["red"]));
    site.apply(&Event::TagFollowed { reader: UserId(5), tag, is_on });
    site.apply(&Event::AuthorFollowed { reader: UserId(6), author, is_on });
    for reader in [5, 6, 7] {
        site.ask(reader, END, &plain());
    }
    let before = site.rankings();
    let [by_tag, by_author, by_none] = [5, 6, 7].map(|reader| {
        let found = site.ask(reader, END, &plain());
        assert_eq!(found, site.anew(reader, END, &plain()), "reader {reader}");
        found.items.into_iter().filter_map(|item| item.reason).collect::<Vec<_>>()
    });
    assert_eq!(site.rankings(), before, "all from lists that are kept");
    assert!(by_tag.contains(&Reason::FollowsTag("red".to_owned())));
    assert!(by_author.contains(&Reason::Follows(author)));
    let follows = |reason: &Reason| matches!(reason, Reason::Follows(_) | Reason::FollowsTag(_));
    assert!(!by_none.iter().any(follows));
}

#[test]
fn further_pages_go_on_in_the_list_that_is_kept() {
    let mut site = site();
    let all = Options { limit: 50, ..plain() };
    for reader in 0..60 {
        let list: Vec<PostId> =
            site.ask(reader, END, &all).items.iter().map(|item| item.post).collect();
        let before = site.rankings();
        for seen in [10, 20, 30] {
            let page = Options { limit: 10, exclude: &list[..seen], ..plain() };
            let page = site.ask(reader, END, &page).items;
            assert!(page.iter().map(|item| item.post).eq(list[seen..seen + 10].iter().copied()));
        }
        assert_eq!(site.rankings(), before, "nothing was ranked for it");
        // Posts to explore, which are kept as well, are not the next best.
        let far = Options { limit: 45, exclude: &list[..40], ..plain() };
        assert_eq!(site.ask(reader, END, &far), site.anew(reader, END, &far));
        assert_eq!(site.rankings(), before + 1);
        // Behind the end of what is kept all is ranked.
        let beyond = Options { limit: 50, exclude: &list, ..plain() };
        assert_eq!(site.ask(reader, END, &beyond), site.anew(reader, END, &beyond));
        assert_eq!(site.rankings(), before + 2);
    }
}

#[test]
fn what_is_hidden_leaves_its_place_to_what_follows() {
    let mut site = site();
    let mut left = ids(&site.ask(5, END, &Options { limit: 80, ..plain() }));
    assert_eq!(left.len(), 80);
    for place in [70, 55, 49, 48, 20, 3, 2, 0] {
        site.apply(&changed(left.remove(place), 1, 9, false, 0, &[]));
    }
    let before = site.rankings();
    for limit in [1, 10, 40, 49, 50, 51, 60, 72] {
        let found = ids(&site.ask(5, END, &Options { limit, ..plain() }));
        assert_eq!(found, left[..limit], "{limit}");
    }
    assert_eq!(site.rankings(), before, "all from the list that is kept");
    site.ask(5, END, &Options { limit: 73, ..plain() });
    assert_eq!(site.rankings(), before + 1, "others had a place when it was made");
}

#[test]
fn reasons_are_given_when_they_are_wanted() {
    let mut site = site();
    let (reader, author) = (UserId(5), UserId(AUTHORS + 70));
    site.apply(&Event::AuthorFollowed { reader, author, is_on: true });
    site.apply(&post(9_000, 70, END, &["red"]));
    for explain in [false, true] {
        let options = Options { explain, ..Options::default() };
        let ranked = [(); 2].map(|()| site.ask(5, END, &options));
        let Site { engine, scratch, .. } = &mut site;
        let others = [
            engine.trending(None, None, Some(reader), &options, scratch),
            engine.following(reader, &options, scratch),
            engine.related(PostId(290), Some(reader), at(END), &options, scratch),
        ];
        for (number, list) in ranked.iter().chain(&others).enumerate() {
            assert!(!list.items.is_empty(), "{number}");
            assert!(list.items.iter().all(|item| item.reason.is_some() == explain), "{number}");
        }
    }
}

#[test]
fn what_is_new_is_ranked_for_the_reader_who_asks() {
    let mut site = site();
    let (author, is_on) = (UserId(AUTHORS + 70), true);
    site.apply(&Event::AuthorFollowed { reader: UserId(6), author, is_on });
    for explain in [false, true] {
        let options = Options { explain, ..Options::default() };
        site.ask(5, END, &options);
        site.ask(6, END, &options);
        site.apply(&post(9_000 + u64::from(explain), 70, END, &["red"]));
        let before = site.rankings();
        let places = |found: &Recommendations| -> Vec<(u64, u32, Source)> {
            let items = found.items.iter();
            items.map(|item| (item.post.0, item.score.to_bits(), item.source)).collect()
        };
        // In turn, so that each comes after another reader's question.
        for reader in [6, 5, 6] {
            let (kept, anew) = (site.ask(reader, END, &options), site.anew(reader, END, &options));
            assert_eq!(places(&kept), places(&anew), "reader {reader}, {explain}");
        }
        assert_eq!(site.rankings(), before, "from lists that are kept");
    }
}

#[test]
fn an_edited_post_keeps_its_place_on_further_pages() {
    let mut site = site();
    let all = ids(&site.ask(5, END, &Options { limit: 80, ..plain() }));
    let shown: Vec<PostId> = all[..10].iter().copied().map(PostId).collect();
    let before = site.rankings();
    let far = all[62..].iter().copied().find(|post| *post >= 100).expect("one of the newest");
    site.apply(&changed(far, 1, 2, true, far * 200, &["red"]));
    let page = site.ask(5, END, &Options { limit: 10, exclude: &shown, ..plain() });
    assert_eq!(ids(&page), all[10..20]);
    assert_eq!(site.rankings(), before, "from the list that is kept");
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
    let before = site.rankings();
    let next = site.ask(5, END, &plain());
    assert_eq!(site.rankings(), before, "from the list that is kept");
    let found = next.items.iter().find(|item| item.post == PostId(9_000)).expect("it is new");
    assert_eq!(found.reason, Some(Reason::Follows(author)));
    assert_eq!(found.source, Source::FollowedAuthor);
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
    assert!(ids(&site.ask(5, END, &plain())).contains(&9_000), "others see it");
    site.apply(&Event::PostDeleted { post: PostId(9_000) });
    assert!(!ids(&site.ask(5, END, &plain())).contains(&9_000));
}

#[test]
fn what_was_read_before_it_was_known_is_no_news() {
    let mut site = site();
    for reader in [5, 6] {
        let (reader, author) = (UserId(reader), UserId(AUTHORS + 70));
        site.apply(&Event::AuthorFollowed { reader, author, is_on: true });
    }
    site.apply(&read(5, 9_000, END));
    site.ask(5, END, &plain());
    site.ask(6, END, &plain());
    let before = site.rankings();
    site.apply(&post(9_000, 70, END, &["red"]));
    assert!(!ids(&site.ask(5, END, &plain())).contains(&9_000));
    assert!(ids(&site.ask(6, END, &plain())).contains(&9_000), "who has not read it");
    assert_eq!(site.rankings(), before, "both from lists that are kept");
}

#[test]
fn an_edit_leaves_a_post_where_it_is() {
    let mut site = site();
    let list = site.ask(5, END, &plain());
    let (first, before) = (list.items[0].clone(), site.rankings());
    assert!(matches!(first.reason, Some(Reason::BecauseRead(_))));
    site.apply(&changed(first.post.0, 1, 2, true, first.post.0 * 200, &["red", "big"]));
    let again = &site.ask(5, END, &plain()).items[0];
    assert_eq!((again.post, again.score, again.source), (first.post, first.score, first.source));
    assert_eq!(again.reason, first.reason);
    assert_eq!(site.rankings(), before);
}

#[test]
fn news_for_one_list_do_not_end_others() {
    let mut site = site();
    site.ask(1, END, &plain());
    site.ask(2, END + 5, &plain());
    for n in 0..4 {
        site.apply(&post(9_000 + n, 70 + n, END + 6, &[]));
        assert!(site.is_kept(1, END + 7 + n), "it takes them in");
    }
    assert!(site.is_kept(2, END + 12), "it is younger");
    assert!(!site.is_kept(1, END + 30), "news make no list younger");
    assert!(site.is_kept(2, END + 34));
}

#[test]
fn who_publishes_gets_a_new_list() {
    let mut site = site();
    let author = AUTHORS + 3;
    site.ask(author, END, &plain());
    assert!(site.is_kept(author, END));
    site.apply(&post(9_000, 3, END, &["red"]));
    assert!(!site.is_kept(author, END));
}

#[test]
fn new_posts_are_explored_from_a_kept_list_and_known_ones_no_more() {
    let mut site = site();
    let explore = |random| Options { random, explore: 2, ..Options::default() };
    site.ask(5, END, &explore(0));
    site.apply(&post(9_000, 70, END, &[]));
    // One author's many posts do not keep out others'.
    (1..9).for_each(|n| site.apply(&post(9_000 + n, 71, END, &[])));
    let before = site.rankings();
    let tried = |list: &Recommendations| -> Vec<(u64, u32)> {
        let tried = list.items.iter().filter(|item| item.source == Source::Exploration);
        tried.map(|item| (item.post.0, item.propensity.to_bits())).collect()
    };
    let explored = |site: &mut Site| -> Vec<u64> {
        let lists = (0..200).map(|random| site.ask(5, END, &explore(random)));
        let lists: Vec<Recommendations> = lists.collect();
        lists.iter().flat_map(&tried).map(|(post, _)| post).collect()
    };
    let found = explored(&mut site);
    assert!(found.contains(&9_000));
    assert!(found.iter().any(|post| (9_001..9_009).contains(post)));
    assert_eq!(site.rankings(), before);
    for random in 0..50 {
        let (kept, anew) =
            (site.ask(5, END, &explore(random)), site.anew(5, END, &explore(random)));
        let places = |list: &Recommendations| -> Vec<u32> {
            tried(list).into_iter().map(|(_, propensity)| propensity).collect()
        };
        assert_eq!(places(&kept), places(&anew), "as many compete");
    }
    for (reader, post) in (1_000..1_060).flat_map(|reader| (9_000..9_009).map(move |n| (reader, n)))
    {
        let posts = vec![PostId(post)];
        site.apply(&Event::Shown { reader: UserId(reader), posts });
    }
    let found = explored(&mut site);
    assert!(!found.is_empty());
    assert!(found.iter().all(|post| *post < 9_000), "as many have seen them as are to");
}

#[test]
fn lists_have_a_bound_and_too_many_news_make_a_new_one() {
    let mut site = site();
    const MOST: usize = 64;
    for reader in 0..2 * MOST as u64 {
        site.apply(&read(reader + 100, reader % 300, END));
        site.ask(reader + 100, END, &plain());
        assert!(site.is_kept(100, END), "who asks again");
    }
    assert!(!site.is_kept(101, END), "the first ones made room");
    let last = 99 + 2 * MOST as u64;
    assert!(site.is_kept(last, END));
    assert_eq!(site.kept.counts().1, MOST);
    (0..60).for_each(|n| site.apply(&post(8_000 + n, n, END, &[])));
    let before = site.rankings();
    let first = ids(&site.ask(last, END, &plain()));
    assert_eq!(ids(&site.anew(last, END, &plain())), first);
    assert_eq!(site.rankings(), before, "sixty are ranked alone");
    (0..70).for_each(|n| site.apply(&post(8_100 + n, n, END, &[])));
    assert!(!site.is_kept(last, END));
    // Who makes a new list with every question pushes out nobody.
    for n in 0..10 * MOST as u64 {
        site.apply(&Event::FeedbackWithdrawn { reader: UserId(last), post: PostId(n % 300) });
        site.ask(last, END, &plain());
        let (_, lists, order) = site.kept.counts();
        assert!(lists == MOST && order <= 4 * MOST, "{lists} lists, {order} in order");
    }
}
