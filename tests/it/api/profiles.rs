//! Public faces of users, and following them.

use serde_json::json;

use super::assert_error;
use crate::support::people::{encode, profile};
use crate::support::{register, with_each_layout};

#[tokio::test]
async fn a_profile_is_public() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut client = node.client();
        let answer = client.get("/api/profiles/jake").await.expect(200).json();
        assert_eq!(answer, json!({"profile": profile("jake", false)}));
        // A name is found in any case, and shown as it was chosen.
        let answer = client.get("/api/profiles/JaKe").await.expect(200).json();
        assert_eq!(answer["profile"]["username"], "jake");

        let change = json!({"user": {"bio": "<b>\"me\"</b>", "image": "https://a.b/c.png"}});
        jake.put("/api/user", &change).await.expect(200);
        let answer = client.get("/api/profiles/jake").await.expect(200).json();
        let expected = json!({"profile": {
            "username": "jake", "bio": "<b>\"me\"</b>", "image": "https://a.b/c.png",
            "following": false,
        }});
        assert_eq!(answer, expected);
        assert_error(client.get("/api/profiles/nobody").await, 404, "profile", "not found");
        assert_error(jake.get("/api/profiles/nobody").await, 404, "profile", "not found");
    })
    .await;
}

#[tokio::test]
async fn names_of_any_script_work_in_paths() {
    with_each_layout(async |node| {
        let mut reader = register(node, "reader").await;
        for name in ["名前", "Ünï.cø-dé_1", "नमस्ते"] {
            register(node, name).await;
            let path = format!("/api/profiles/{}", encode(name));
            let answer = reader.get(&path).await.expect(200).json();
            assert_eq!(answer, json!({"profile": profile(name, false)}));
            let answer = reader.post_nothing(&format!("{path}/follow")).await.expect(200).json();
            assert_eq!(answer, json!({"profile": profile(name, true)}));
        }
    })
    .await;
}

#[tokio::test]
async fn following_is_seen_at_once_and_only_by_the_follower() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut other = register(node, "other").await;
        // A repetition changes nothing.
        for _ in 0..2 {
            let answer = anna.post_nothing("/api/profiles/jake/follow").await.expect(200).json();
            assert_eq!(answer, json!({"profile": profile("jake", true)}));
            let seen = anna.get("/api/profiles/jake").await.expect(200).json();
            assert_eq!(seen, json!({"profile": profile("jake", true)}));
        }
        for user in [&mut jake, &mut other] {
            let seen = user.get("/api/profiles/jake").await.expect(200).json();
            assert_eq!(seen, json!({"profile": profile("jake", false)}));
        }
        let slug = jake.create_slug("Mine", &[]).await;
        let path = format!("/api/articles/{slug}");
        let seen = anna.get(&path).await.expect(200).json();
        assert_eq!(seen["article"]["author"], profile("jake", true));
        let seen = other.get(&path).await.expect(200).json();
        assert_eq!(seen["article"]["author"], profile("jake", false));

        for _ in 0..2 {
            let answer = anna.delete("/api/profiles/jake/follow").await.expect(200).json();
            assert_eq!(answer, json!({"profile": profile("jake", false)}));
            let seen = anna.get("/api/profiles/jake").await.expect(200).json();
            assert_eq!(seen, json!({"profile": profile("jake", false)}));
        }
        let answer = anna.post_nothing("/api/profiles/nobody/follow").await;
        assert_error(answer, 404, "profile", "not found");
        assert_error(anna.delete("/api/profiles/nobody/follow").await, 404, "profile", "not found");
    })
    .await;
}

#[tokio::test]
async fn nobody_follows_himself() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let answer = jake.post_nothing("/api/profiles/jake/follow").await.expect(422).json();
        assert!(answer["errors"]["username"][0].is_string(), "{answer}");
        let seen = jake.get("/api/profiles/jake").await.expect(200).json();
        assert_eq!(seen["profile"]["following"], false);
    })
    .await;
}
