//! Lists and the feed: filters, order, pages, true totals.

use serde_json::{Value, json};

use super::assert_error;
use crate::support::people::{encode, page, slug};
use crate::support::{HttpClient, register, with_each_layout};

async fn list(client: &mut HttpClient, query: &str) -> Value {
    client.get(&format!("/api/articles{query}")).await.expect(200).json()
}

#[tokio::test]
async fn a_list_shows_everything_but_the_body() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut expected = jake.create("One", &["a", "b"]).await;
        expected.as_object_mut().unwrap().remove("body").unwrap();
        let mut client = node.client();
        let all = json!({"articles": [expected], "articlesCount": 1});
        assert_eq!(list(&mut client, "").await, all);

        anna.post_nothing("/api/profiles/jake/follow").await.expect(200);
        let favorite = format!("/api/articles/{}/favorite", slug(&expected));
        anna.post_nothing(&favorite).await.expect(200);
        expected["favoritesCount"] = json!(1);
        assert_eq!(list(&mut client, "").await["articles"][0], expected);
        expected["favorited"] = json!(true);
        expected["author"]["following"] = json!(true);
        assert_eq!(list(&mut anna, "").await["articles"][0], expected);
        let feed = anna.get("/api/articles/feed").await.expect(200).json();
        assert_eq!(feed, json!({"articles": [expected], "articlesCount": 1}));
    })
    .await;
}

#[tokio::test]
async fn a_list_is_newest_first_and_cut_into_pages() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut titles: Vec<String> = Vec::new();
        for n in 0..45 {
            titles.insert(0, format!("Number {n}"));
            jake.create(&titles[0], &["all"]).await;
            // Read your writes: what was just answered stands first.
            let answer = list(&mut jake, "?limit=1").await;
            assert_eq!(page(&answer), (vec![titles[0].as_str()], n + 1));
        }
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        for filter in ["", "tag=all&", "author=jake&"] {
            for (query, range) in [
                ("", 0..20),
                ("limit=100", 0..45),
                ("limit=7", 0..7),
                ("offset=3", 3..23),
                ("limit=7&offset=40", 40..45),
                ("offset=44", 44..45),
                ("offset=45", 45..45),
                ("limit=&offset=", 0..20),
            ] {
                let answer = list(&mut jake, &format!("?{filter}{query}")).await;
                assert_eq!(page(&answer), (titles[range].to_vec(), 45), "{filter}{query}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn filters_follow_every_change_at_once() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let one = jake.create_slug("One", &["Rust", "a b"]).await;
        jake.create("Two", &["rust"]).await;
        let three = anna.create_slug("Three", &["rust", "ü&="]).await;
        for title in ["One", "Three"] {
            let slug = if title == "One" { &one } else { &three };
            anna.post_nothing(&format!("/api/articles/{slug}/favorite")).await.expect(200);
        }
        let mut client = node.client();
        let odd = format!("tag={}", encode("ü&="));
        for (query, titles) in [
            ("", vec!["Three", "Two", "One"]),
            ("tag=rust", vec!["Three", "Two", "One"]),
            ("tag=RUST", vec!["Three", "Two", "One"]),
            ("tag=a+b", vec!["One"]),
            ("tag=a%20b", vec!["One"]),
            (&odd, vec!["Three"]),
            ("tag=none", vec![]),
            ("author=jake", vec!["Two", "One"]),
            ("author=JAKE", vec!["Two", "One"]),
            ("author=nobody", vec![]),
            ("favorited=anna", vec!["Three", "One"]),
            ("favorited=jake", vec![]),
            ("favorited=nobody", vec![]),
            ("author=jake&tag=rust", vec!["Two", "One"]),
            ("author=jake&favorited=anna", vec!["One"]),
            ("author=anna&tag=rust&favorited=anna", vec!["Three"]),
            ("author=anna&tag=a+b", vec![]),
            ("tag=&author=&favorited=", vec!["Three", "Two", "One"]),
        ] {
            let answer = list(&mut client, &format!("?{query}")).await;
            let total = titles.len() as u64;
            assert_eq!(page(&answer), (titles, total), "{query}");
        }

        let change = json!({"article": {"tagList": ["other"]}});
        anna.put(&format!("/api/articles/{three}"), &change).await.expect(200);
        anna.delete(&format!("/api/articles/{one}/favorite")).await.expect(200);
        for (query, titles) in [
            ("tag=rust", vec!["Two", "One"]),
            ("tag=other", vec!["Three"]),
            ("favorited=anna", vec!["Three"]),
        ] {
            let answer = list(&mut client, &format!("?{query}")).await;
            let total = titles.len() as u64;
            assert_eq!(page(&answer), (titles, total), "{query}");
        }
        anna.delete(&format!("/api/articles/{three}")).await.expect(204);
        for query in ["tag=other", "favorited=anna", "author=anna"] {
            let answer = list(&mut client, &format!("?{query}")).await;
            assert_eq!(answer, json!({"articles": [], "articlesCount": 0}), "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_feed_is_what_followed_users_wrote() {
    with_each_layout(async |node| {
        let mut reader = register(node, "reader").await;
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut other = register(node, "other").await;
        for n in 0..3 {
            jake.create(&format!("jake {n}"), &[]).await;
            anna.create(&format!("anna {n}"), &[]).await;
            other.create(&format!("other {n}"), &[]).await;
            reader.create(&format!("own {n}"), &[]).await;
        }
        let mut feed = async |query: &str| {
            reader.get(&format!("/api/articles/feed{query}")).await.expect(200).json()
        };
        assert_eq!(feed("").await, json!({"articles": [], "articlesCount": 0}));
        let mut follow = node.client();
        let token = log_in(node, "reader").await;
        follow.set_token(token);
        follow.post_nothing("/api/profiles/jake/follow").await.expect(200);
        assert_eq!(page(&feed("").await), (vec!["jake 2", "jake 1", "jake 0"], 3));
        follow.post_nothing("/api/profiles/anna/follow").await.expect(200);
        let both = ["anna 2", "jake 2", "anna 1", "jake 1", "anna 0", "jake 0"];
        assert_eq!(page(&feed("").await), (both.to_vec(), 6));
        assert_eq!(page(&feed("?limit=2").await), (both[..2].to_vec(), 6));
        assert_eq!(page(&feed("?limit=2&offset=3").await), (both[3..5].to_vec(), 6));
        assert_eq!(page(&feed("?offset=6").await), (vec![], 6));
        let new = jake.create_slug("jake 3", &[]).await;
        assert_eq!(page(&feed("?limit=1").await), (vec!["jake 3"], 7));
        jake.delete(&format!("/api/articles/{new}")).await.expect(204);
        assert_eq!(page(&feed("").await), (both.to_vec(), 6));
        follow.delete("/api/profiles/jake/follow").await.expect(200);
        assert_eq!(page(&feed("").await), (vec!["anna 2", "anna 1", "anna 0"], 3));
    })
    .await;
}

async fn log_in(node: &crate::support::TestNode, name: &str) -> String {
    let body = json!({"user": {
        "email": format!("{name}@example.org"), "password": crate::support::people::PASSWORD,
    }});
    let answer = node.client().post("/api/users/login", &body).await.expect(200).json();
    answer["user"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_page_has_bounds() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        for path in ["/api/articles", "/api/articles/feed"] {
            for (query, field) in [
                ("limit=0", "limit"),
                ("limit=101", "limit"),
                ("limit=-1", "limit"),
                ("limit=x", "limit"),
                ("limit=1e3", "limit"),
                ("limit=99999999999999999999999", "limit"),
                ("offset=-1", "offset"),
                ("offset=10001", "offset"),
                ("offset=x", "offset"),
                ("offset=1.5", "offset"),
            ] {
                let answer = jake.get(&format!("{path}?{query}")).await.expect(422).json();
                assert!(answer["errors"][field][0].is_string(), "{query}: {answer}");
            }
            jake.get(&format!("{path}?limit=100&offset=10000")).await.expect(200);
        }
        let mut client = node.client();
        assert_error(client.get("/api/articles/feed?limit=x").await, 401, "token", "is missing");
    })
    .await;
}
