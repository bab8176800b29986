//! One article: writing, reading, changing, deleting, favoring.

use serde_json::{Value, json};

use super::{assert_error, assert_time};
use crate::support::people::{article, profile, slug};
use crate::support::{register, with_each_layout};

#[tokio::test]
async fn an_article_is_created_and_read() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let created = jake.create("How to train your dragon", &["dragons", "Training"]).await;
        let slug = slug(&created);
        assert!(slug.starts_with("how-to-train-your-dragon-"), "{slug}");
        assert_time(&created["createdAt"]);
        let expected = json!({
            "slug": slug,
            "title": "How to train your dragon",
            "description": "about How to train your dragon",
            "body": "# How to train your dragon",
            "tagList": ["dragons", "Training"],
            "createdAt": created["createdAt"],
            "updatedAt": created["createdAt"],
            "favorited": false,
            "favoritesCount": 0,
            "author": profile("jake", false),
        });
        assert_eq!(created, expected);
        let mut client = node.client();
        let path = format!("/api/articles/{slug}");
        assert_eq!(client.get(&path).await.expect(200).json(), json!({"article": expected}));
        assert_eq!(jake.get(&path).await.expect(200).json(), json!({"article": expected}));
        let none = client.get("/api/articles/no-such-article").await;
        assert_error(none, 404, "article", "not found");
        let other_id = format!("/api/articles/{}0000000000001", &slug[..slug.len() - 13]);
        assert_error(client.get(&other_id).await, 404, "article", "not found");
    })
    .await;
}

#[tokio::test]
async fn an_article_needs_its_texts() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        for field in ["title", "description", "body"] {
            for empty in [json!(""), json!("  \n"), Value::Null] {
                let mut body = article("T", &[]);
                body["article"][field] = empty;
                let answer = jake.post("/api/articles", &body).await;
                assert_error(answer, 422, field, "can't be blank");
            }
            let mut body = article("T", &[]);
            body["article"].as_object_mut().unwrap().remove(field);
            let answer = jake.post("/api/articles", &body).await;
            assert_error(answer, 422, field, "can't be blank");
        }
        // Everything that is wrong is named at once.
        let answer = jake.post("/api/articles", &json!({"article": {}})).await.expect(422).json();
        let blank = json!(["can't be blank"]);
        let all = json!({"errors": {"title": blank, "description": blank, "body": blank}});
        assert_eq!(answer, all);
        let listed = jake.get("/api/articles").await.expect(200).json();
        assert_eq!(listed, json!({"articles": [], "articlesCount": 0}));
    })
    .await;
}

#[tokio::test]
async fn a_slug_is_distinct_lasting_and_never_empty() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let first = jake.create_slug("Same title", &[]).await;
        let second = jake.create_slug("Same title", &[]).await;
        assert_ne!(first, second);
        for odd in ["\u{1F389}\u{1F389}", "---", "名前", "Ünï cødé", "a/b?c#d%e"] {
            let created = jake.create(odd, &[]).await;
            let slug = slug(&created);
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            assert!(!slug.is_empty() && slug.bytes().all(plain), "{odd}: {slug}");
            let found = jake.get(&format!("/api/articles/{slug}")).await.expect(200).json();
            assert_eq!(found["article"]["title"], odd);
        }

        let change = json!({"article": {"title": "Another title"}});
        let path = format!("/api/articles/{first}");
        let changed = jake.put(&path, &change).await.expect(200).json()["article"].clone();
        let new = slug(&changed);
        assert!(new.starts_with("another-title-"), "{new}");
        for known in [&first, &new] {
            let found = jake.get(&format!("/api/articles/{known}")).await.expect(200).json();
            assert_eq!(found["article"], changed);
            let path = format!("/api/articles/{known}/favorite");
            jake.post_nothing(&path).await.expect(200);
            jake.delete(&path).await.expect(200);
        }
        let change = json!({"article": {"body": "other", "description": "other"}});
        let kept = jake.put(&path, &change).await.expect(200).json();
        assert_eq!(kept["article"]["slug"], new.as_str(), "unchanged if the title is");
        let change = json!({"article": {"title": "Another title"}});
        let kept = jake.put(&path, &change).await.expect(200).json();
        assert_eq!(kept["article"]["slug"], new.as_str());
    })
    .await;
}

#[tokio::test]
async fn an_update_changes_only_what_it_names() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut expected = jake.create("Title", &["b", "a"]).await;
        let path = format!("/api/articles/{}", slug(&expected));
        for (field, value) in [
            ("description", json!("new description")),
            ("body", json!("new body")),
            ("tagList", json!(["z", "B", "m"])),
            ("tagList", json!([])),
            ("tagList", json!(["again"])),
            ("title", json!("New title")),
        ] {
            let body = json!({"article": {field: value}});
            let changed = jake.put(&path, &body).await.expect(200).json()["article"].clone();
            assert_time(&changed["updatedAt"]);
            // Even within a millisecond.
            assert!(changed["updatedAt"].as_str() > expected["updatedAt"].as_str(), "{changed}");
            expected[field] = value;
            for moves in ["updatedAt", "slug"] {
                expected[moves] = changed[moves].clone();
            }
            assert_eq!(changed, expected);
            let found = jake.get(&path).await.expect(200).json();
            assert_eq!(found["article"], expected);
        }
        for (field, bad) in [("title", json!("")), ("description", json!("")), ("body", json!(""))]
        {
            let answer = jake.put(&path, &json!({"article": {field: bad}})).await;
            assert_error(answer, 422, field, "can't be blank");
        }
        for bad in [Value::Null, json!("a"), json!([1]), json!([null]), json!({})] {
            let body = json!({"article": {"tagList": bad}});
            let answer = jake.put(&path, &body).await.expect(422).json();
            assert!(answer["errors"]["tagList"][0].is_string(), "{answer}");
        }
        let found = jake.get(&path).await.expect(200).json();
        assert_eq!(found["article"], expected, "what was refused changed nothing");
    })
    .await;
}

#[tokio::test]
async fn only_its_author_changes_or_deletes_an_article() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let created = jake.create("Mine", &["t"]).await;
        let path = format!("/api/articles/{}", slug(&created));
        let change = json!({"article": {"title": "Yours"}});
        assert_error(anna.put(&path, &change).await, 403, "article", "forbidden");
        assert_error(anna.delete(&path).await, 403, "article", "forbidden");
        let found = anna.get(&path).await.expect(200).json();
        assert_eq!(found["article"], created);
        let none = "/api/articles/no-such-article";
        assert_error(anna.put(none, &change).await, 404, "article", "not found");
        assert_error(anna.delete(none).await, 404, "article", "not found");

        let gone = jake.delete(&path).await.expect(204);
        assert!(gone.body.is_empty());
        for _ in 0..2 {
            assert_error(jake.get(&path).await, 404, "article", "not found");
            assert_error(jake.put(&path, &change).await, 404, "article", "not found");
            assert_error(jake.delete(&path).await, 404, "article", "not found");
            let favorite = format!("{path}/favorite");
            assert_error(anna.post_nothing(&favorite).await, 404, "article", "not found");
            assert_error(anna.delete(&favorite).await, 404, "article", "not found");
        }
        let listed = jake.get("/api/articles").await.expect(200).json();
        assert_eq!(listed, json!({"articles": [], "articlesCount": 0}));
        let tags = jake.get("/api/tags").await.expect(200).json();
        assert_eq!(tags, json!({"tags": []}));
    })
    .await;
}

#[tokio::test]
async fn a_favorite_counts_once() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut expected = jake.create("Liked", &["t"]).await;
        let path = format!("/api/articles/{}", slug(&expected));
        let favorite = format!("{path}/favorite");
        expected["favorited"] = json!(true);
        expected["favoritesCount"] = json!(1);
        for _ in 0..2 {
            let answer = anna.post_nothing(&favorite).await.expect(200).json();
            assert_eq!(answer["article"], expected, "with body, and updatedAt stays");
            let seen = anna.get(&path).await.expect(200).json();
            assert_eq!(seen["article"], expected);
        }
        expected["favoritesCount"] = json!(2);
        let answer = jake.post_nothing(&favorite).await.expect(200).json();
        assert_eq!(answer["article"], expected);
        expected["favorited"] = json!(false);
        let mut client = node.client();
        assert_eq!(client.get(&path).await.expect(200).json()["article"], expected);
        expected["favoritesCount"] = json!(1);
        for _ in 0..2 {
            let answer = anna.delete(&favorite).await.expect(200).json();
            assert_eq!(answer["article"], expected);
        }
        let none = "/api/articles/no-such-article/favorite";
        assert_error(anna.post_nothing(none).await, 404, "article", "not found");
        assert_error(anna.delete(none).await, 404, "article", "not found");
    })
    .await;
}

#[tokio::test]
async fn tags_are_those_in_use() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut client = node.client();
        let mut tags = async || -> Vec<String> {
            let answer = client.get("/api/tags").await.expect(200).json();
            assert_eq!(answer.as_object().unwrap().len(), 1);
            let tags = answer["tags"].as_array().unwrap();
            let mut tags: Vec<_> =
                tags.iter().map(|tag| tag.as_str().unwrap().to_owned()).collect();
            tags.sort();
            tags
        };
        assert!(tags().await.is_empty());
        let first = jake.create_slug("One", &["rust", "actors"]).await;
        assert_eq!(tags().await, ["actors", "rust"]);
        let second = jake.create_slug("Two", &["rust", "\"<tag>\""]).await;
        assert_eq!(tags().await, ["\"<tag>\"", "actors", "rust"]);
        let path = format!("/api/articles/{first}");
        jake.put(&path, &json!({"article": {"tagList": ["new"]}})).await.expect(200);
        assert_eq!(tags().await, ["\"<tag>\"", "new", "rust"]);
        jake.delete(&format!("/api/articles/{second}")).await.expect(204);
        assert_eq!(tags().await, ["new"]);
    })
    .await;
}
