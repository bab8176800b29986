//! Posts: lists and one post.

use serde_json::json;

use super::{assert_problem, assert_time, titles};
use crate::support::people::slug;
use crate::support::{HttpClient, register, with_each_layout};

#[tokio::test]
async fn a_post_is_shown_by_its_id_or_any_slug_of_it() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("How to <b>train</b>", &["Tag"]).await;
        let mut client = node.client();
        let answer = client.get(&format!("/v1/posts/{slug}")).await.expect(200);
        let post = answer.json();
        let id = post["id"].as_str().unwrap();
        assert!(slug.ends_with(id) && id.len() == 13, "{slug} {id}");
        assert_eq!(post["slug"], slug);
        assert_eq!(post["body"], "# How to <b>train</b>");
        assert_eq!(post["html"], "<h1>How to &lt;b&gt;train&lt;/b&gt;</h1>\n");
        assert_eq!(post["tags"], json!(["Tag"]));
        assert_eq!(post["visibility"], "public");
        assert_eq!((&post["favorites"], &post["favorited"]), (&json!(0), &json!(false)));
        assert_eq!(post["author"]["username"], "jake");
        assert_eq!((&post["publish_at"], &post["link_token"]), (&json!(null), &json!(null)));
        for time in ["created_at", "updated_at", "published_at"] {
            assert_time(&post[time]);
        }
        for name in [id, &format!("another-title-{id}")] {
            assert_eq!(client.get(&format!("/v1/posts/{name}")).await.expect(200).json(), post);
        }
    })
    .await;
}

#[tokio::test]
async fn who_has_the_answer_is_told_so_until_it_changes() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let slug = jake.create_slug("One", &[]).await;
        let path = format!("/v1/posts/{slug}");
        let mut client = node.client();
        let tag = client.get(&path).await.expect(200).header("etag").unwrap().to_owned();
        let known = [("if-none-match", tag.as_str())];
        let same = client.ask("GET", &path, &known, None).await.expect(304);
        assert_eq!((same.header("etag"), same.body.len()), (Some(tag.as_str()), 0));
        jake.ask("GET", &path, &known, None).await.expect(304);

        jake.post_nothing(&format!("/api/articles/{slug}/favorite")).await.expect(200);
        let changed = client.ask("GET", &path, &known, None).await.expect(200);
        assert_eq!(changed.json()["favorites"], 1);
        let tag = changed.header("etag").unwrap().to_owned();
        let known = [("if-none-match", tag.as_str())];
        client.ask("GET", &path, &known, None).await.expect(304);
        let own = jake.ask("GET", &path, &known, None).await.expect(200);
        assert_eq!(own.json()["favorited"], true, "another reader sees another answer");
    })
    .await;
}

/// Reads a list by its cursors, and each page from its end and back.
async fn walk(client: &mut HttpClient, path: &str) -> Vec<String> {
    let (mut found, mut path) = (Vec::new(), path.to_owned());
    let mut before: Option<String> = None;
    loop {
        let answer = client.get(&path).await.expect(200);
        let page = answer.json();
        let links = answer.header("link").unwrap_or_default().to_owned();
        if let (Some(before), Some(prev)) = (&before, page["prev_cursor"].as_str()) {
            assert!(links.contains(&format!("cursor={prev}>; rel=\"prev\"")), "{links}");
            let back = format!("{}&cursor={prev}", path.split("&cursor").next().unwrap());
            let back = client.get(&back).await.expect(200).json();
            assert_eq!(back["data"].to_string(), *before, "the page before {path}");
        } else {
            assert!(before.is_none(), "a page that follows another leads back to it: {page}");
        }
        found.extend(titles(&page).into_iter().map(str::to_owned));
        before = Some(page["data"].to_string());
        let Some(next) = page["next_cursor"].as_str() else { return found };
        let link = links
            .split('<')
            .find(|link| link.ends_with("rel=\"next\"") || link.contains("rel=\"next\""));
        path = link.and_then(|link| link.split('>').next()).expect("a link leads on").to_owned();
        assert!(path.contains(next), "{path}");
    }
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut anna = register(node, "anna").await;
        let mut expected = Vec::new();
        for n in 0..12 {
            expected.insert(0, format!("Number {n}"));
            let writer = if n % 2 == 0 { &mut jake } else { &mut anna };
            writer.create(&expected[0], if n % 3 == 0 { &["Third"] } else { &[] }).await;
        }
        let mut client = node.client();
        let every = |step: usize, from: usize| {
            expected.iter().skip(from).step_by(step).cloned().collect::<Vec<_>>()
        };
        assert_eq!(walk(&mut client, "/v1/posts?limit=5").await, expected);
        assert_eq!(walk(&mut client, "/v1/posts?limit=4").await, expected);
        assert_eq!(walk(&mut client, "/v1/posts?limit=2&author=jake").await, every(2, 1));
        assert_eq!(walk(&mut client, "/v1/posts?limit=1&tag=third").await, every(3, 2));
        assert_eq!(walk(&mut client, "/v1/posts?tag=third&author=jake").await, every(6, 5));
        assert_eq!(walk(&mut client, "/v1/posts?author=nobody").await, Vec::<String>::new());
        assert_eq!(walk(&mut client, "/v1/posts?tag=none").await, Vec::<String>::new());
        let long = "x".repeat(300);
        assert_eq!(walk(&mut client, &format!("/v1/posts?tag={long}")).await, Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_cursor_survives_the_deletion_of_its_post() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        let mut slugs = Vec::new();
        for n in 0..6 {
            slugs.push(slug(&jake.create(&format!("Number {n}"), &[]).await));
        }
        let page = jake.get("/v1/posts?limit=2").await.expect(200).json();
        assert_eq!(titles(&page), ["Number 5", "Number 4"]);
        jake.delete(&format!("/api/articles/{}", slugs[4])).await.expect(204);
        let next = page["next_cursor"].as_str().unwrap();
        let page = jake.get(&format!("/v1/posts?limit=2&cursor={next}")).await.expect(200).json();
        assert_eq!(titles(&page), ["Number 3", "Number 2"]);
        // What comes after the cursor may go, too: an empty page leads back.
        let next = page["next_cursor"].as_str().unwrap();
        for slug in &slugs[..2] {
            jake.delete(&format!("/api/articles/{slug}")).await.expect(204);
        }
        let page = jake.get(&format!("/v1/posts?limit=2&cursor={next}")).await.expect(200).json();
        assert_eq!((titles(&page), &page["next_cursor"]), (vec![], &json!(null)));
        let prev = page["prev_cursor"].as_str().unwrap();
        let page = jake.get(&format!("/v1/posts?limit=2&cursor={prev}")).await.expect(200).json();
        assert_eq!(titles(&page), ["Number 3", "Number 2"]);
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_a_problem() {
    with_each_layout(async |node| {
        let mut jake = register(node, "jake").await;
        for n in 0..3 {
            jake.create(&format!("Number {n}"), &["a"]).await;
        }
        let mut client = node.client();
        let page = client.get("/v1/posts?limit=1&tag=a").await.expect(200).json();
        let foreign = page["next_cursor"].as_str().unwrap();
        for (path, status, code, pointers) in [
            ("/v1/posts?limit=0".to_owned(), 422, "invalid", vec!["/limit"]),
            ("/v1/posts?limit=101".to_owned(), 422, "invalid", vec!["/limit"]),
            ("/v1/posts?limit=x".to_owned(), 422, "invalid", vec!["/limit"]),
            ("/v1/posts?tag=%FF".to_owned(), 422, "invalid", vec!["/tag"]),
            ("/v1/posts?cursor=x".to_owned(), 400, "invalid", vec!["/cursor"]),
            (format!("/v1/posts?cursor={foreign}"), 400, "invalid", vec!["/cursor"]),
            (format!("/v1/posts?tag=b&cursor={foreign}"), 400, "invalid", vec!["/cursor"]),
            ("/v1/posts/nothing".to_owned(), 404, "not_found", vec![]),
            ("/v1/posts/0000000000001".to_owned(), 404, "not_found", vec![]),
            ("/v1/nothing".to_owned(), 404, "not_found", vec![]),
            ("/v1".to_owned(), 404, "not_found", vec![]),
        ] {
            assert_problem(&client.get(&path).await, status, code, &pointers);
        }
        let wrong = client.ask("DELETE", "/v1/posts", &[], None).await;
        assert_problem(&wrong, 405, "invalid", &["/method"]);
        assert!(wrong.header("allow").is_some_and(|methods| methods.contains("GET")));
        let bad = [("authorization", "Bearer x")];
        let refused = client.ask("GET", "/v1/posts", &bad, None).await;
        assert_problem(&refused, 401, "unauthenticated", &["/token"]);
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    })
    .await;
}
