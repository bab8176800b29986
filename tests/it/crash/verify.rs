//! Compares everything that the server has with everything that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::model::{Person, Square, body_of};
use crate::support::people::{PASSWORD, slug};
use crate::support::{HttpClient, TestNode};

/// How much was compared.
pub struct Counts {
    articles: usize,
    comments: usize,
    favorites: usize,
    users: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { articles, comments, favorites, users } = self;
        write!(f, "{articles} articles, {comments} comments, {favorites} favorites, {users} users")
    }
}

pub async fn everything(node: &TestNode, people: &mut [Person], square: &Square) -> Counts {
    let mut client = node.client();
    let all = articles(&mut client, "").await;
    let mut expected: BTreeSet<String> = square.slugs.iter().cloned().collect();
    for person in people.iter_mut() {
        own_articles(&mut client, person, &all).await;
        expected.extend(there(person));
    }
    let found: BTreeSet<String> = all.keys().cloned().collect();
    assert_eq!(found, expected, "every article that was acknowledged, and no other");

    let mut counts = Counts { articles: all.len(), comments: 0, favorites: 0, users: 0 };
    for person in people.iter_mut() {
        counts.favorites += favorites(&mut client, person, square).await;
        counts.users += accounts(node, person).await;
    }
    for (place, slug) in square.slugs.iter().enumerate() {
        counts.comments += comments(&mut client, people, place, slug).await;
        let favoring =
            |person: &&Person| person.favorites.get(&place).is_some_and(|favored| *favored.value());
        let favoring = people.iter().filter(favoring).count();
        assert_eq!(all[slug]["favoritesCount"], favoring, "favoritesCount of {slug}");
    }
    tags(&mut client, people).await;
    for person in people.iter_mut() {
        for article in &mut person.articles {
            article.touched = false;
        }
    }
    counts
}

/// All articles of a list, page by page; every page names as many as there are.
async fn articles(client: &mut HttpClient, filter: &str) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let mut seen = 0;
    loop {
        let path = format!("/api/articles?{filter}limit=100&offset={seen}");
        let answer = client.get(&path).await.expect(200).json();
        let page = answer["articles"].as_array().unwrap();
        seen += page.len();
        for article in page {
            let twice = all.insert(slug(article), article.clone());
            assert!(twice.is_none(), "{} is listed twice", slug(article));
        }
        if page.is_empty() {
            assert_eq!(answer["articlesCount"], all.len(), "articlesCount of {filter:?}");
            return all;
        }
    }
}

/// Slugs of the articles that a person has.
fn there(person: &Person) -> impl Iterator<Item = String> {
    let there = person.articles.iter().filter(|article| article.revision.value().is_some());
    there.map(|article| article.slug.clone())
}

async fn own_articles(client: &mut HttpClient, person: &mut Person, all: &BTreeMap<String, Value>) {
    adopt_unanswered(person, all);
    let name = Person::name(person.number);
    for at in 0..person.articles.len() {
        let slug = person.articles[at].slug.clone();
        // The slug follows the title: only the id at its end stays.
        let id = &slug[slug.len() - 13..];
        let found = all.iter().find(|(slug, _)| slug.ends_with(id));
        let revision = found.map(|(_, article)| {
            let title = article["title"].as_str().unwrap();
            assert_eq!(article["description"], title, "half an edit");
            title.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
        });
        person.articles[at].revision.settle(revision, &format!("article {slug} of {name}"));
        if let Some((slug, _)) = found {
            person.articles[at].slug.clone_from(slug);
        }
        if person.articles[at].touched {
            let answer = client.get(&format!("/api/articles/{slug}")).await;
            let Some(revision) = revision else {
                answer.expect(404);
                continue;
            };
            let article = answer.expect(200).json();
            assert_eq!(article["article"]["body"], body_of(&person.title(revision)).as_str());
        }
    }
    let own: BTreeSet<String> = there(person).collect();
    let mut listed: BTreeSet<String> =
        articles(client, &format!("author={name}&")).await.into_keys().collect();
    listed.retain(|slug| !slug.starts_with("shared-"));
    assert_eq!(listed, own, "author={name}");
    let tagged = articles(client, &format!("tag=of-{}&", person.number)).await;
    assert_eq!(tagged.into_keys().collect::<BTreeSet<_>>(), own, "tag=of-{}", person.number);
}

/// An article whose creation was not answered is there or not; from now on that is known.
fn adopt_unanswered(person: &mut Person, all: &BTreeMap<String, Value>) {
    let Some(title) = person.unanswered_article.take() else { return };
    let found: Vec<_> = all.values().filter(|article| article["title"] == title.as_str()).collect();
    assert!(found.len() <= 1, "{title} was created {} times", found.len());
    if let Some(article) = found.first() {
        let revision = title.rsplit(' ').next().and_then(|text| text.parse().ok());
        person.articles.push(super::model::Article {
            slug: slug(article),
            revision: super::model::Known::new(revision),
            touched: true,
        });
    }
}

async fn favorites(client: &mut HttpClient, person: &mut Person, square: &Square) -> usize {
    let name = Person::name(person.number);
    let found = articles(client, &format!("favorited={name}&")).await;
    for (place, favored) in &mut person.favorites {
        let is_found = found.contains_key(&square.slugs[*place]);
        favored.settle(is_found, &format!("favorite {place} of {name}"));
    }
    let known = person.favorites.values().filter(|favored| *favored.value()).count();
    assert_eq!(known, found.len(), "favorited={name}");
    known
}

async fn comments(
    client: &mut HttpClient,
    people: &mut [Person],
    place: usize,
    slug: &str,
) -> usize {
    let answer = client.get(&format!("/api/articles/{slug}/comments")).await.expect(200).json();
    let mut found: BTreeMap<u64, (String, String)> = BTreeMap::new();
    for comment in answer["comments"].as_array().unwrap() {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let of = (text(&comment["author"]["username"]), text(&comment["body"]));
        let twice = found.insert(comment["id"].as_u64().unwrap(), of);
        assert!(twice.is_none(), "a comment is listed twice");
    }
    let count = found.len();
    for person in people {
        let name = Person::name(person.number);
        let unanswered = person.unanswered_comment.take_if(|(at, _)| *at == place);
        if let Some((_, text)) = unanswered {
            let mut same = found.iter().filter(|(_, (_, found))| *found == text);
            if let Some((id, _)) = same.next() {
                let known = super::model::Known::new(true);
                person.comments.insert((place, *id), (text.clone(), known));
            }
            assert!(same.next().is_none(), "{text} was written twice");
        }
        let of_place = (place, 0)..(place + 1, 0);
        for ((_, id), (text, there)) in person.comments.range_mut(of_place) {
            let of = found.remove(id);
            there.settle(of.is_some(), &format!("comment {id} on {slug} of {name}"));
            if let Some(of) = of {
                assert_eq!(of, (name.clone(), text.clone()), "comment {id} on {slug}");
            }
        }
    }
    assert!(found.is_empty(), "comments that nobody wrote: {found:?}");
    count
}

async fn accounts(node: &TestNode, person: &mut Person) -> usize {
    let name = Person::name(person.number);
    let mut client = node.client();
    client.set_token(person.token.as_str());
    let user = client.get("/api/user").await.expect(200).json();
    let bio = user["user"]["bio"].as_str().unwrap().parse().unwrap();
    person.bio.settle(bio, &format!("bio of {name}"));
    for (name, known) in &mut person.registered {
        let status = client.get(&format!("/api/profiles/{name}")).await.status;
        assert!([200, 404].contains(&status), "{status}");
        let was_settled = known.is_settled();
        known.settle(status == 200, &format!("user {name}"));
        if status == 200 && !was_settled {
            // Half a registration is none: who is there can sign in.
            let body = serde_json::json!({"user": {
                "email": format!("{name}@example.org"), "password": PASSWORD,
            }});
            client.post("/api/users/login", &body).await.expect(200);
        }
    }
    1 + person.registered.iter().filter(|(_, known)| *known.value()).count()
}

async fn tags(client: &mut HttpClient, people: &[Person]) {
    let mut expected: BTreeSet<String> = BTreeSet::from(["shared".to_owned()]);
    for person in people.iter().filter(|person| there(person).next().is_some()) {
        expected.insert("own".to_owned());
        expected.insert(format!("of-{}", person.number));
    }
    let answer = client.get("/api/tags").await.expect(200).json();
    let found = answer["tags"].as_array().unwrap();
    let found: BTreeSet<_> = found.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
    assert_eq!(found, expected, "tags");
}
