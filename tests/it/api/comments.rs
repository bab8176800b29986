//! Comments on an article.

use serde_json::{Value, json};

use super::{assert_error, assert_time};
use crate::support::people::profile;
use crate::support::{register, with_each_layout};

#[tokio::test]
async fn comments_are_written_listed_and_deleted() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let slug = jake.create_slug("Talk", &[]).await;
        let path = format!("/api/articles/{slug}/comments");
        let empty = anna.get(&path).await.expect(200).json();
        assert_eq!(empty, json!({"comments": []}));

        let first = anna.comment(&slug, "First \u{1F389}").await;
        let id = first["id"].as_u64().unwrap();
        assert!(id < 1 << 31, "front ends want small integers: {id}");
        assert_time(&first["createdAt"]);
        let expected = json!({
            "id": id, "createdAt": first["createdAt"], "updatedAt": first["createdAt"],
            "body": "First \u{1F389}", "author": profile("anna", false),
        });
        assert_eq!(first, expected);
        let second = jake.comment(&slug, "Second").await;
        assert_ne!(second["id"], first["id"]);

        let ids = |answer: &Value| -> Vec<u64> {
            let comments = answer["comments"].as_array().unwrap();
            let mut ids: Vec<_> = comments.iter().map(|c| c["id"].as_u64().unwrap()).collect();
            ids.sort_unstable();
            ids
        };
        let mut client = node.client();
        let listed = client.get(&path).await.expect(200).json();
        assert_eq!(ids(&listed), [id, second["id"].as_u64().unwrap()]);
        assert!(listed["comments"].as_array().unwrap().contains(&first));
        assert!(listed["comments"].as_array().unwrap().contains(&second));

        // Who follows sees it in the comments, too.
        jake.post_nothing("/api/profiles/anna/follow").await.expect(200);
        let seen = jake.get(&path).await.expect(200).json();
        let comments = seen["comments"].as_array().unwrap();
        let of_anna = comments.iter().find(|comment| comment["id"] == id).unwrap();
        assert_eq!(of_anna["author"], profile("anna", true));

        let one = format!("{path}/{id}");
        assert_error(jake.delete(&one).await, 403, "comment", "forbidden");
        let gone = anna.delete(&one).await.expect(204);
        assert!(gone.body.is_empty());
        assert_error(anna.delete(&one).await, 404, "comment", "not found");
        let listed = client.get(&path).await.expect(200).json();
        assert_eq!(listed["comments"], json!([second]));
        // A number never comes back.
        let third = anna.comment(&slug, "Third").await;
        assert!(![&first["id"], &second["id"]].contains(&&third["id"]));
    })
    .await;
}

#[tokio::test]
async fn comments_need_an_article_and_a_text() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("Talk", &[]).await;
        let path = format!("/api/articles/{slug}/comments");
        for bad in [json!({"body": ""}), json!({"body": null}), json!({})] {
            let answer = jake.post(&path, &json!({"comment": bad})).await;
            assert_error(answer, 422, "body", "can't be blank");
        }
        let comment = json!({"comment": {"body": "x"}});
        let none = "/api/articles/no-such-article/comments";
        assert_error(jake.get(none).await, 404, "article", "not found");
        assert_error(jake.post(none, &comment).await, 404, "article", "not found");
        assert_error(jake.delete(&format!("{none}/1")).await, 404, "article", "not found");
        for number in ["1", "0", "-1", "99999999999999999999", "x"] {
            let answer = jake.delete(&format!("{path}/{number}")).await;
            assert_error(answer, 404, "comment", "not found");
        }

        // With the article go its comments.
        jake.comment(&slug, "soon gone").await;
        jake.delete(&format!("/api/articles/{slug}")).await.expect(204);
        assert_error(jake.get(&path).await, 404, "article", "not found");
        assert_error(jake.post(&path, &comment).await, 404, "article", "not found");
        assert_error(jake.delete(&format!("{path}/1")).await, 404, "article", "not found");
    })
    .await;
}
