//! Registration, signing in, one's own account.

use serde_json::{Value, json};

use super::assert_error;
use crate::support::people::{PASSWORD, registration};
use crate::support::{HttpClient, User, register, with_each_layout};

fn user(name: &str, token: &Value) -> Value {
    json!({"user": {
        "email": format!("{name}@example.org"), "token": token, "username": name,
        "bio": null, "image": null,
    }})
}

async fn log_in(client: &mut HttpClient, email: &str, password: &str) -> Value {
    let body = json!({"user": {"email": email, "password": password}});
    client.post("/api/users/login", &body).await.expect(200).json()
}

async fn assert_signed_out(client: &mut HttpClient) {
    assert_error(client.get("/api/user").await, 401, "token", "is invalid");
}

#[tokio::test]
async fn a_user_registers_and_signs_in() {
    with_each_layout(async |node| {
        let mut client = node.client();
        let answer = client.post("/api/users", &registration("jake")).await.expect(201).json();
        let token = answer["user"]["token"].clone();
        assert!(token.as_str().is_some_and(|token| token.len() > 20), "{token}");
        assert_eq!(answer, user("jake", &token));

        let answer = log_in(&mut client, "jake@example.org", PASSWORD).await;
        assert_eq!(answer, user("jake", &answer["user"]["token"]));
        // An address is compared without regard to case, and shown as it was sent.
        let again = log_in(&mut client, "JAKE@Example.org", PASSWORD).await;
        assert_eq!(again["user"]["email"], "jake@example.org");

        for scheme in ["Token", "token", "Bearer"] {
            let token = answer["user"]["token"].as_str().unwrap();
            let head = format!(
                "GET /api/user HTTP/1.1\r\nhost: q\r\nauthorization: {scheme} {token}\r\n\r\n"
            );
            let current = client.exchange(head.as_bytes()).await.unwrap().expect(200).json();
            assert_eq!(current, user("jake", &current["user"]["token"]));
        }
    })
    .await;
}

#[tokio::test]
async fn registration_names_what_is_wrong() {
    with_each_layout(async |node| {
        register(node, "taken").await;
        let mut client = node.client();
        for field in ["username", "email", "password"] {
            for empty in [json!(""), Value::Null] {
                let mut body = registration("fresh");
                body["user"][field] = empty;
                let answer = client.post("/api/users", &body).await;
                assert_error(answer, 422, field, "can't be blank");
            }
            let mut body = registration("fresh");
            body["user"].as_object_mut().unwrap().remove(field);
            let answer = client.post("/api/users", &body).await;
            assert_error(answer, 422, field, "can't be blank");
        }
        let mut short = registration("fresh");
        short["user"]["password"] = json!("1234567");
        let answer = client.post("/api/users", &short).await.expect(422).json();
        assert!(answer["errors"]["password"][0].is_string(), "{answer}");

        for (name, email, field) in [
            ("taken", "other@example.org", "username"),
            ("TAKEN", "other@example.org", "username"),
            ("other", "taken@example.org", "email"),
            ("other", "Taken@EXAMPLE.org", "email"),
        ] {
            let mut body = registration(name);
            body["user"]["email"] = json!(email);
            let answer = client.post("/api/users", &body).await;
            assert_error(answer, 409, field, "has already been taken");
        }
        // What was refused left nothing behind.
        for name in ["fresh", "other"] {
            client.post("/api/users", &registration(name)).await.expect(201);
        }
    })
    .await;
}

#[tokio::test]
async fn signing_in_needs_the_right_password() {
    with_each_layout(async |node| {
        register(node, "jake").await;
        let mut client = node.client();
        for (email, password) in
            [("jake@example.org", "wrong horse"), ("nobody@example.org", PASSWORD), ("x", "y")]
        {
            let body = json!({"user": {"email": email, "password": password}});
            let answer = client.post("/api/users/login", &body).await;
            assert_error(answer, 401, "credentials", "invalid");
        }
        for field in ["email", "password"] {
            let mut body = json!({"user": {"email": "jake@example.org", "password": PASSWORD}});
            body["user"][field] = json!("");
            let answer = client.post("/api/users/login", &body).await;
            assert_error(answer, 422, field, "can't be blank");
        }
    })
    .await;
}

#[tokio::test]
async fn one_must_be_signed_in() {
    with_each_layout(async |node| {
        let mut user = register(node, "jake").await;
        let slug = user.create_slug("There", &[]).await;
        let mut client = node.client();
        // A missing token comes before a missing thing.
        let paths = [
            ("GET", "/api/user".to_owned(), None),
            ("PUT", "/api/user".to_owned(), Some(json!({"user": {"bio": "x"}}))),
            ("POST", "/api/profiles/nobody/follow".to_owned(), None),
            ("DELETE", "/api/profiles/nobody/follow".to_owned(), None),
            ("GET", "/api/articles/feed".to_owned(), None),
            ("POST", "/api/articles".to_owned(), Some(json!({"article": {}}))),
            ("PUT", format!("/api/articles/{slug}"), Some(json!({"article": {"title": "x"}}))),
            ("PUT", "/api/articles/none".to_owned(), Some(json!({"article": {"title": "x"}}))),
            ("DELETE", "/api/articles/none".to_owned(), None),
            ("POST", "/api/articles/none/favorite".to_owned(), None),
            ("DELETE", "/api/articles/none/favorite".to_owned(), None),
            ("POST", "/api/articles/none/comments".to_owned(), Some(json!({}))),
            ("DELETE", "/api/articles/none/comments/1".to_owned(), None),
            ("DELETE", format!("/api/articles/{slug}/comments/1"), None),
        ];
        for (method, path, body) in &paths {
            let answer = client.send(method, path, body.as_ref()).await.unwrap();
            assert_error(answer, 401, "token", "is missing");
        }
        client.set_token("nonsense");
        for (method, path, body) in &paths {
            let answer = client.send(method, path, body.as_ref()).await.unwrap();
            assert_error(answer, 401, "token", "is invalid");
        }
        // A bad token is never taken for no token.
        assert_error(client.get("/api/articles").await, 401, "token", "is invalid");
        assert_error(client.get("/api/profiles/nobody").await, 401, "token", "is invalid");
    })
    .await;
}

#[tokio::test]
async fn an_account_changes_only_where_it_is_told_to() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let steps = [
            (json!({"bio": "I work"}), json!("I work"), Value::Null),
            (json!({"image": "https://a.b/c.png"}), json!("I work"), json!("https://a.b/c.png")),
            (json!({}), json!("I work"), json!("https://a.b/c.png")),
            (json!({"bio": ""}), Value::Null, json!("https://a.b/c.png")),
            (json!({"bio": "again", "image": null}), json!("again"), Value::Null),
            (json!({"bio": null}), Value::Null, Value::Null),
            (json!({"image": "http://x.y"}), Value::Null, json!("http://x.y")),
            (json!({"image": ""}), Value::Null, Value::Null),
        ];
        for (change, bio, image) in steps {
            let answer = jake.put("/api/user", &json!({"user": change})).await.expect(200).json();
            let mut expected = user("jake", &answer["user"]["token"]);
            expected["user"]["bio"] = bio;
            expected["user"]["image"] = image;
            assert_eq!(answer, expected, "after {change}");
            let current = jake.get("/api/user").await.expect(200).json();
            expected["user"]["token"] = current["user"]["token"].clone();
            assert_eq!(current, expected, "after {change}");
        }
        for field in ["email", "username", "password"] {
            for empty in [json!(""), Value::Null] {
                let body = json!({"user": {field: empty}});
                let answer = jake.put("/api/user", &body).await;
                assert_error(answer, 422, field, "can't be blank");
            }
        }
        let body = json!({"user": {"password": "1234567", "bio": "not kept"}});
        let answer = jake.put("/api/user", &body).await.expect(422).json();
        assert!(answer["errors"]["password"][0].is_string());
        let current = jake.get("/api/user").await.expect(200).json();
        assert_eq!(current["user"]["bio"], Value::Null, "a refused change changes nothing");
    })
    .await;
}

#[tokio::test]
async fn a_name_or_address_can_be_changed_given_back_and_not_stolen() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("Mine", &[]).await;
        let mut anna = register(node, "anna").await;
        for (field, value) in [("username", "Jake"), ("email", "JAKE@example.org")] {
            let answer = anna.put("/api/user", &json!({"user": {field: value}})).await;
            assert_error(answer, 409, field, "has already been taken");
        }
        // The token stays valid after a change of name or address, and a new one is returned.
        let change = json!({"user": {"username": "jacob", "email": "jacob@example.org"}});
        let answer = jake.put("/api/user", &change).await.expect(200).json();
        assert_eq!(answer, user("jacob", &answer["user"]["token"]));
        let old = jake.get("/api/user").await.expect(200).json();
        assert_eq!(old, user("jacob", &old["user"]["token"]));
        let new = answer["user"]["token"].as_str().unwrap().to_owned();
        jake.set_token(new);
        jake.get("/api/user").await.expect(200);

        // Everything shows the new name, and only it.
        let mut client = node.client();
        assert_error(client.get("/api/profiles/jake").await, 404, "profile", "not found");
        client.get("/api/profiles/jacob").await.expect(200);
        let article = client.get(&format!("/api/articles/{slug}")).await.expect(200).json();
        assert_eq!(article["article"]["author"]["username"], "jacob");
        let listed = client.get("/api/articles?author=jacob").await.expect(200).json();
        assert_eq!(listed["articlesCount"], 1);
        let listed = client.get("/api/articles?author=jake").await.expect(200).json();
        assert_eq!(listed["articlesCount"], 0);
        let body = json!({"user": {"email": "jake@example.org", "password": PASSWORD}});
        client.post("/api/users/login", &body).await.expect(401);
        log_in(&mut client, "jacob@example.org", PASSWORD).await;

        // What was given back is free.
        client.post("/api/users", &registration("jake")).await.expect(201);
        // One's own name in another case is no theft.
        let answer = jake.put("/api/user", &json!({"user": {"username": "JACOB"}})).await;
        assert_eq!(answer.expect(200).json()["user"]["username"], "JACOB");
    })
    .await;
}

#[tokio::test]
async fn a_new_password_ends_all_older_tokens() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut elsewhere = node.client();
        let answer = log_in(&mut elsewhere, "jake@example.org", PASSWORD).await;
        elsewhere.set_token(answer["user"]["token"].as_str().unwrap());
        elsewhere.get("/api/user").await.expect(200);

        let long = "ü".repeat(64);
        let body = json!({"user": {"password": long}});
        let answer = jake.put("/api/user", &body).await.expect(200).json();
        assert_signed_out(&mut elsewhere).await;
        assert_signed_out(&mut jake).await;
        jake.set_token(answer["user"]["token"].as_str().unwrap());
        jake.get("/api/user").await.expect(200);

        let mut client = node.client();
        let old = json!({"user": {"email": "jake@example.org", "password": PASSWORD}});
        let answer = client.post("/api/users/login", &old).await;
        assert_error(answer, 401, "credentials", "invalid");
        log_in(&mut client, "jake@example.org", &long).await;
    })
    .await;
}

#[tokio::test]
async fn a_token_outlives_the_process() {
    let mut node = crate::support::TestNode::builder().shards(4).start().await;
    let jake: User = register(&node, "jake").await;
    let token = jake.token().to_owned();
    node.restart().await;
    let mut client = node.client();
    client.set_token(token);
    client.get("/api/user").await.expect(200);
}
