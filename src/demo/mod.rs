//! Generated content that looks like a real site: the same for the same seed, for `quire demo` and
//! for benchmarks.
//!
//! Every user and post is made from the seed and its own number alone, so that a large site can be
//! generated piece by piece, without holding it in memory.

mod random;
mod words;

use crate::ids::Stamp;
use crate::transfer::record::{
    Comment, Favorite, Follow, Post, PostVisibility, Read, Record, Time, User,
};
use random::Random;
use words::{
    CLOSINGS, COMMENTS, FIRST_NAMES, LAST_NAMES, OPENINGS, SENTENCES, TITLES, TOPICS, Topic,
};

/// Handle of the user whom a visitor signs in as.
pub const DEMO_USER: &str = "demo";
/// Address of that user.
pub const DEMO_EMAIL: &str = "demo@example.com";

const WEEK_S: u64 = 7 * 24 * 60 * 60;
/// Posts are spread over so much of the past.
const SPREAD_S: u64 = 6 * WEEK_S;
/// Accounts are older than the first post.
const ACCOUNT_AGE_S: u64 = 8 * WEEK_S;
const FOLLOWS_MAX: u64 = 25;
const FAVORITES_MAX: u64 = 40;
const COMMENTS_MAX: u64 = 6;

// Streams of random numbers: what one part draws must not move what another one does.
const USERS: u64 = 1;
const FOLLOWS: u64 = 2;
const POSTS: u64 = 3;
const RESPONSES: u64 = 4;

/// A generated site.
#[derive(Debug, Clone)]
pub struct Site {
    /// Another seed, another site.
    pub seed: u64,
    /// How many users, from 1.
    pub users: usize,
    /// How many posts.
    pub posts: usize,
    /// The latest moment in it.
    pub now: Stamp,
    /// PHC string of the password that all users share; none: nobody can sign in.
    pub password_hash: Option<String>,
}

impl Site {
    /// All records, each after those it refers to.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let users = (0..self.users).map(|number| Record::User(self.user(number)));
        let follows = (0..self.users).flat_map(|number| self.follows(number)).map(Record::Follow);
        let posts = (0..self.posts).map(|number| Record::Post(self.post(number)));
        let responses = (0..self.posts).flat_map(|number| self.responses(number));
        users.chain(follows).chain(posts).chain(responses)
    }

    /// A user.
    pub fn user(&self, number: usize) -> User {
        let mut random = Random::new(self.seed, USERS, number as u64);
        let username = handle(number);
        let topics = self.interests(number).map(|topic| topic.name);
        let bio = format!("Writes about {} and {}.", topics[0], topics[1]);
        let age_s = SPREAD_S + random.below(ACCOUNT_AGE_S - SPREAD_S);
        User {
            email: format!("{username}@example.com"),
            username,
            bio: Some(bio),
            image: None,
            password: None,
            password_hash: self.password_hash.clone(),
            created_at: Some(self.before(age_s)),
        }
    }

    /// Whom a user follows: mostly the well-known.
    pub fn follows(&self, number: usize) -> Vec<Follow> {
        let mut random = Random::new(self.seed, FOLLOWS, number as u64);
        let wanted = 3 + random.below(FOLLOWS_MAX - 2);
        let mut followed: Vec<usize> =
            (0..wanted).map(|_| random.skewed(self.users as u64) as usize).collect();
        followed.sort_unstable();
        followed.dedup();
        followed.retain(|other| *other != number);
        followed
            .into_iter()
            .map(|other| Follow { follower: handle(number), followed: handle(other) })
            .collect()
    }

    /// A post. The first is the oldest.
    pub fn post(&self, number: usize) -> Post {
        let mut random = Random::new(self.seed, POSTS, number as u64);
        let author = self.author(number);
        let topics = self.interests(author);
        let topic = if random.below(4) == 0 { topics[1] } else { topics[0] };
        let mut tags = vec![topic.name.to_owned()];
        for _ in 0..1 + random.below(3) {
            let tag = random.pick(topic.tags).to_owned();
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        Post {
            key: self.key(number),
            author: handle(author),
            title: capital(&fill(random.pick(TITLES), topic, &mut random)),
            description: capital(&fill(random.pick(OPENINGS), topic, &mut random)),
            body: body(topic, &mut random),
            tags,
            visibility: PostVisibility::Public,
            publish_at: None,
            created_at: Some(self.before(self.age_s(number))),
        }
    }

    /// Favorites, reads and comments of a post, comments in the order of their time.
    pub fn responses(&self, number: usize) -> Vec<Record> {
        let mut random = Random::new(self.seed, RESPONSES, number as u64);
        let topic = self.interests(self.author(number))[0];
        let (post, age_s) = (self.key(number), self.age_s(number));
        let mut records = Vec::new();
        for _ in 0..random.skewed(FAVORITES_MAX) {
            let user = handle(self.reader(topic, &mut random));
            let at = self.before(random.below(age_s.max(1)));
            let read = Read { user: user.clone(), post: post.clone(), at, depth: None };
            records.push(Record::Read(read));
            records.push(Record::Favorite(Favorite { user, post: post.clone() }));
        }
        let mut ages: Vec<u64> =
            (0..random.skewed(COMMENTS_MAX)).map(|_| random.below(age_s.max(1))).collect();
        ages.sort_unstable_by(|left, right| right.cmp(left));
        for age_s in ages {
            records.push(Record::Comment(Comment {
                user: handle(self.reader(topic, &mut random)),
                post: post.clone(),
                body: capital(&fill(random.pick(COMMENTS), topic, &mut random)),
                created_at: Some(self.before(age_s)),
            }));
        }
        records
    }

    /// The two topics that a user cares for, the dearer one first.
    fn interests(&self, user: usize) -> [&'static Topic; 2] {
        let mut random = Random::new(self.seed, USERS, !(user as u64));
        let first = random.below(TOPICS.len() as u64) as usize;
        let step = 1 + random.below(TOPICS.len() as u64 - 1) as usize;
        [&TOPICS[first], &TOPICS[(first + step) % TOPICS.len()]]
    }

    /// A few write much, many write little.
    fn author(&self, post: usize) -> usize {
        Random::new(self.seed, POSTS, !(post as u64)).skewed(self.users as u64) as usize
    }

    /// Somebody, more likely one who cares for the topic.
    fn reader(&self, topic: &Topic, random: &mut Random) -> usize {
        let mut user = 0;
        for _ in 0..4 {
            user = random.below(self.users as u64) as usize;
            if self.interests(user).iter().any(|cares| cares.name == topic.name) {
                break;
            }
        }
        user
    }

    fn key(&self, post: usize) -> String {
        format!("demo/{}/{post}", self.seed)
    }

    fn age_s(&self, post: usize) -> u64 {
        let slot_s = SPREAD_S / self.posts.max(1) as u64;
        let from_newest = self.posts.saturating_sub(post + 1) as u64;
        let jitter_s = Random::new(self.seed, POSTS, post as u64 ^ (1 << 63)).below(slot_s.max(1));
        from_newest * slot_s + jitter_s
    }

    fn before(&self, age_s: u64) -> Time {
        Time(Stamp(self.now.0.saturating_sub(age_s.saturating_mul(1_000_000))))
    }
}

/// The handle of a user, distinct for every number.
pub fn handle(number: usize) -> String {
    let Some(number) = number.checked_sub(1) else { return DEMO_USER.to_owned() };
    let first = FIRST_NAMES[number % FIRST_NAMES.len()];
    let round = number / FIRST_NAMES.len();
    // A round moves on by 48 + 7 names. The number of last names is prime and does not divide that,
    // so a first name meets every last name before one comes again.
    let last = LAST_NAMES[(round * 7 + number) % LAST_NAMES.len()];
    match round / LAST_NAMES.len() {
        0 => format!("{first}-{last}"),
        more => format!("{first}-{last}-{more}"),
    }
}

fn body(topic: &Topic, random: &mut Random) -> String {
    let mut text = capital(&fill(random.pick(OPENINGS), topic, random));
    for part in 0..2 + random.below(3) {
        text.push_str("\n\n");
        if part > 0 {
            text.push_str(&format!("## {}\n\n", capital(random.pick(topic.things))));
        }
        paragraph(&mut text, topic, random);
        if random.below(3) == 0 {
            text.push('\n');
            for _ in 0..3 + random.below(2) {
                text.push_str(&format!("\n- **{}**", random.pick(topic.things)));
                text.push_str(&format!(": {}", random.pick(topic.deeds)));
            }
        }
    }
    text.push_str("\n\n");
    text.push_str(&capital(&fill(random.pick(CLOSINGS), topic, random)));
    text.push('\n');
    text
}

fn paragraph(text: &mut String, topic: &Topic, random: &mut Random) {
    for sentence in 0..3 + random.below(3) {
        if sentence > 0 {
            text.push(' ');
        }
        text.push_str(&capital(&fill(random.pick(SENTENCES), topic, random)));
    }
}

/// Puts words of the topic into a template: `{thing}`, `{deed}`, `{place}`, `{topic}`.
fn fill(template: &str, topic: &Topic, random: &mut Random) -> String {
    let mut text = String::with_capacity(template.len() + 32);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (slot, after) = after.split_once('}').unwrap_or((after, ""));
        text.push_str(before);
        text.push_str(match slot {
            "thing" => random.pick(topic.things),
            "deed" => random.pick(topic.deeds),
            "place" => random.pick(topic.places),
            _ => topic.name,
        });
        rest = after;
    }
    text.push_str(rest);
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::fields;

    fn site(seed: u64) -> Site {
        let now = Stamp(1_700_000_000_000_000);
        Site { seed, users: 200, posts: 1000, now, password_hash: None }
    }

    #[test]
    fn the_same_seed_gives_the_same_site() {
        let records = |seed| site(seed).records().collect::<Vec<_>>();
        assert_eq!(records(1), records(1));
        assert_ne!(records(1), records(2));
        assert_eq!(site(1).post(500), site(1).post(500), "each by itself");
    }

    #[test]
    fn handles_are_distinct_and_valid() {
        let handles: BTreeSet<String> = (0..20_000).map(handle).collect();
        assert_eq!(handles.len(), 20_000);
        for handle in handles {
            assert!(fields::username(&handle).is_ok(), "{handle}");
        }
    }

    #[test]
    fn everything_is_valid_and_after_what_it_refers_to() {
        let site = site(7);
        let (mut users, mut posts) = (BTreeSet::new(), BTreeSet::new());
        let (mut favorites, mut comments, mut tags) = (0, 0, BTreeSet::new());
        for record in site.records() {
            match record {
                Record::User(user) => {
                    fields::email(&user.email).unwrap();
                    assert!(users.insert(user.username));
                }
                Record::Follow(follow) => {
                    assert!(users.contains(&follow.follower) && users.contains(&follow.followed));
                }
                Record::Post(post) => {
                    assert!(users.contains(&post.author));
                    assert!(post.created_at.unwrap().0 <= site.now);
                    fields::title(post.title).unwrap();
                    fields::description(post.description).unwrap();
                    assert!(post.body.len() > 300 && !post.body.contains('{'));
                    tags.extend(fields::tags(post.tags).unwrap());
                    assert!(posts.insert(post.key));
                }
                Record::Favorite(favorite) => {
                    assert!(users.contains(&favorite.user) && posts.contains(&favorite.post));
                    favorites += 1;
                }
                Record::Comment(comment) => {
                    assert!(users.contains(&comment.user) && posts.contains(&comment.post));
                    assert!(comment.created_at.unwrap().0 <= site.now);
                    comments += 1;
                }
                Record::Read(read) => assert!(read.at.0 <= site.now),
                Record::TagFollow(_) | Record::TagMute(_) | Record::Feedback(_) => {
                    panic!("{record:?}")
                }
            }
        }
        assert_eq!((users.len(), posts.len()), (200, 1000));
        assert!(favorites > 2000 && comments > 500, "{favorites} {comments}");
        assert!(tags.len() > 20, "{tags:?}");
        assert!(users.contains(DEMO_USER));
    }
}
