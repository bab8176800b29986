//! The appended JSON is the JSON that serde would have made.

use std::sync::{Arc, OnceLock};

use axum::response::Response;
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::actors::post::message::Visibility;
use crate::ids::PostId;

fn body_of(response: Response) -> Value {
    let collected = futures_util::FutureExt::now_or_never(response.into_body().collect());
    serde_json::from_slice(&collected.unwrap().unwrap().to_bytes()).unwrap()
}

fn summary(title: &str, description: &str, tags: Vec<String>, at: Stamp) -> Summary {
    Summary {
        id: PostId(7),
        author: UserId(9),
        title: title.to_owned(),
        description: description.to_owned(),
        tags,
        visibility: Visibility::Public,
        created_at: at,
        updated_at: at.plus_ms(1),
        published_at: None,
        publish_at: None,
        link_token: [0; 16],
        version: 1,
        rendered: OnceLock::new(),
    }
}

fn card(username: &str, bio: Option<String>, image: Option<String>) -> Card {
    Card { username: username.to_owned(), bio, image, rendered: OnceLock::new() }
}

fn viewer(follows: Vec<UserId>) -> Viewer {
    Viewer { id: UserId(1), token_generation: 0, follows, mutes: vec![], blocked_by: vec![] }
}

fn naive_time(at: Stamp) -> String {
    let time = Timestamp::from_millisecond(at.as_millis() as i64).unwrap();
    time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

fn naive(view: &PostView, author: &Value) -> Value {
    let summary = &view.summary;
    json!({
        "slug": slug(&summary.title, summary.id),
        "title": summary.title,
        "description": summary.description,
        "tagList": summary.tags,
        "createdAt": naive_time(summary.created_at),
        "updatedAt": naive_time(summary.updated_at),
        "favorited": view.favorited,
        "favoritesCount": view.favorites,
        "author": author,
    })
}

#[test]
fn times_have_three_digits_and_a_z() {
    let mut out = Vec::new();
    put_time(&mut out, Stamp(1_455_765_776_637_999));
    put_time(&mut out, Stamp(1_455_765_776_000_000));
    put_time(&mut out, Stamp(0));
    let expected = concat!(
        r#""2016-02-18T03:22:56.637Z""#,
        r#""2016-02-18T03:22:56.000Z""#,
        r#""1970-01-01T00:00:00.000Z""#
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    put_time(&mut Vec::new(), Stamp(u64::MAX));
}

#[test]
fn who_is_no_more_is_called_deleted() {
    let view = PostView {
        summary: Arc::new(summary("t", "d", vec![], Stamp(0))),
        favorites: 0,
        favorited: false,
    };
    let body = Body::of_text("text");
    let article = body_of(article(StatusCode::OK, &view, &body, None, None));
    let deleted = json!({"username": "deleted", "bio": null, "image": null, "following": false});
    assert_eq!(article["article"]["author"], deleted);
}

#[test]
fn large_bodies_are_rendered() {
    let view = PostView {
        summary: Arc::new(summary("t", "d", vec![], Stamp(0))),
        favorites: 0,
        favorited: false,
    };
    let text = "\u{7}\"é".repeat(32 * 1024);
    let body = Body::of_text(&text);
    let rendered = body_of(article(StatusCode::OK, &view, &body, None, None));
    assert_eq!(rendered["article"]["body"], text);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn articles_equal_their_naive_rendering(
        (title, description, body) in any::<(String, String, String)>(),
        tags in prop::collection::vec(any::<String>(), 0..4),
        at in 0_u64..4_000_000_000_000_000,
        (favorites, favorited, follows) in any::<(u64, bool, bool)>(),
        (name, bio, image) in any::<(String, Option<String>, Option<String>)>(),
    ) {
        let summary = Arc::new(summary(&title, &description, tags, Stamp(at)));
        let view = PostView { summary, favorites, favorited };
        let card = card(&name, bio.clone(), image.clone());
        let viewer = viewer(if follows { vec![UserId(9)] } else { vec![] });
        let author =
            json!({"username": name, "bio": bio, "image": image, "following": follows});
        // Twice: rendered, and from what was kept.
        for _ in 0..2 {
            let mut expected = naive(&view, &author);
            expected["body"] = json!(body);
            let sent = Body::of_text(&body);
            let one = article(StatusCode::OK, &view, &sent, Some(&card), Some(&viewer));
            prop_assert_eq!(body_of(one), json!({"article": expected}));
            let profile = body_of(profile(&card, follows));
            prop_assert_eq!(profile, json!({"profile": author}));
        }
        let cards = Cards::of(vec![(UserId(9), Some(Arc::new(card)))]);
        let page = articles(&[view.clone(), view.clone()], 2, &cards)
            .for_reader(|_| view.favorited, |author| viewer.follows(author));
        let expected = naive(&view, &author);
        prop_assert_eq!(
            serde_json::from_slice::<Value>(&page).unwrap(),
            json!({"articles": [expected, expected], "articlesCount": 2})
        );
    }

    #[test]
    fn comments_and_users_equal_their_naive_rendering(
        (text, name, token) in any::<(String, String, String)>(),
        (bio, image) in any::<(Option<String>, Option<String>)>(),
        number in any::<u32>(),
    ) {
        let at = Stamp(1_700_000_000_000_000);
        let one = Comment {
            number, author: UserId(9), body: text.clone(), created_at: at, updated_at: at,
        };
        let author = json!({"username": name, "bio": bio, "image": image, "following": false});
        let expected = json!({
            "id": number, "createdAt": naive_time(at), "updatedAt": naive_time(at),
            "body": text, "author": author,
        });
        let card = card(&name, bio.clone(), image.clone());
        let new = comment(&one, Some(&card), &viewer(vec![]));
        prop_assert_eq!(body_of(new), json!({"comment": expected}));
        let cards = Cards::of(vec![(UserId(9), Some(Arc::new(card)))]);
        let all = comments(&[one.clone(), one], &cards, None);
        prop_assert_eq!(body_of(all), json!({"comments": [expected, expected]}));
        let account = Account {
            id: UserId(9), username: name.clone(), email: text.clone(), bio: bio.clone(),
            image: image.clone(), token_generation: 0, created_at: at,
        };
        let own = body_of(user(StatusCode::OK, &account, &token));
        prop_assert_eq!(own, json!({"user": {
            "email": text, "token": token, "username": name, "bio": bio, "image": image,
        }}));
        let words = [name.as_str(), token.as_str()];
        let page: Value = serde_json::from_slice(&tags(words.into_iter())).unwrap();
        prop_assert_eq!(page, json!({"tags": words}));
    }
}
