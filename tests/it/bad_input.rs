//! What no well-behaved client sends: one table of input, status and shape of the answer. After
//! all of it the node still serves.

use std::io::ErrorKind;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::client::{Connection, HttpClient, Response};
use crate::support::node::TestNode;
use crate::support::people::{article, encode, registration};
use crate::support::register;

/// How long the node of this test waits for a slow sender.
const PATIENCE_MS: u64 = 400;

/// The expected form of an answer.
enum Shape {
    /// The RealWorld error that names this field, and no other.
    Names(&'static str),
    /// RFC 9457.
    Problem,
    /// Refused below the routes: a status alone.
    Bare,
    /// No answer: the connection is closed.
    Closed,
}

use Shape::{Bare, Closed, Names, Problem};

/// How the bytes are sent.
enum Input {
    /// All at once.
    Whole(Vec<u8>),
    /// These, and then nothing more, while the connection stays open.
    Stalled(Vec<u8>),
    /// The first at once, then one byte of the second at a time, for ever.
    Dripped(Vec<u8>, u8),
}

struct Case {
    what: &'static str,
    input: Input,
    status: u16,
    shape: Shape,
}

fn whole(what: &'static str, bytes: impl Into<Vec<u8>>, status: u16, shape: Shape) -> Case {
    Case { what, input: Input::Whole(bytes.into()), status, shape }
}

/// A request with any head and body.
fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{line} HTTP/1.1\r\nhost: quire\r\n").into_bytes();
    for (key, value) in headers {
        bytes.extend_from_slice(format!("{key}: {value}\r\n").as_bytes());
    }
    if !body.is_empty() {
        bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// A registration with any bytes as its body.
fn post_user(body: &[u8]) -> Vec<u8> {
    request("POST /api/users", &[JSON], body)
}

fn get(path: &str) -> Vec<u8> {
    request(&format!("GET {path}"), &[], b"")
}

/// The whole table. `token` is a valid one.
fn table(token: &str, forged: &[(&'static str, String)]) -> Vec<Case> {
    let mut table = bodies(token);
    table.extend(heads());
    table.extend(paths());
    table.extend(fields(token));
    table.extend(forged.iter().map(|(what, token)| {
        let header = format!("Token {token}");
        let bytes = request("GET /api/user", &[("authorization", &header)], b"");
        whole(what, bytes, 401, Names("token"))
    }));
    table
}

fn bodies(token: &str) -> Vec<Case> {
    let big = vec![b' '; 10 * 1024 * 1024];
    let bearer = format!("Token {token}");
    let signed: [(&str, &str); 2] = [JSON, ("authorization", &bearer)];
    let unannounced = |bytes: usize| {
        let chunk = vec![b' '; 64 * 1024];
        let mut request = b"POST /api/users HTTP/1.1\r\nhost: quire\r\ncontent-type: \
            application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
        for _ in 0..bytes / chunk.len() {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(&chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    let text = registration("nobody").to_string();
    vec![
        whole("not JSON", post_user(b"username=x"), 400, Names("body")),
        whole("JSON cut off", post_user(br#"{"user":{"username":"#), 400, Names("body")),
        whole("JSON and more", post_user(b"{} {}"), 400, Names("body")),
        whole("no body", post_user(b""), 400, Names("body")),
        whole(
            "broken UTF-8",
            post_user(b"{\"user\":{\"username\":\"\xff\xfe\"}}"),
            400,
            Names("body"),
        ),
        whole(
            "lone surrogate",
            post_user(br#"{"user":{"username":"\ud800"}}"#),
            400,
            Names("body"),
        ),
        whole("deep nesting", post_user("[".repeat(100_000).as_bytes()), 400, Names("body")),
        whole("a number", post_user(b"42"), 422, Names("body")),
        whole("a list", post_user(b"[]"), 422, Names("body")),
        whole("no wrapper", post_user(b"{}"), 422, Names("user")),
        whole("wrapper of another type", post_user(br#"{"user":[]}"#), 422, Names("user")),
        whole("wrapper is null", post_user(br#"{"user":null}"#), 422, Names("user")),
        whole(
            "a member twice",
            post_user(br#"{"user":{"username":"a","username":"b"}}"#),
            422,
            Names("body"),
        ),
        whole("10 MB announced", post_user(&big), 413, Names("body")),
        whole("10 MB in chunks", unannounced(big.len()), 413, Names("body")),
        whole(
            "no media type",
            request("POST /api/users", &[], text.as_bytes()),
            415,
            Names("content-type"),
        ),
        whole(
            "a form",
            request(
                "POST /api/users",
                &[("content-type", "application/x-www-form-urlencoded")],
                text.as_bytes(),
            ),
            415,
            Names("content-type"),
        ),
        whole(
            "text/plain, which needs no preflight",
            request("POST /api/users", &[("content-type", "text/plain")], text.as_bytes()),
            415,
            Names("content-type"),
        ),
        whole(
            "tags of another type",
            {
                let mut body = article("T", &[]);
                body["article"]["tagList"] = json!([1, 2]);
                request("POST /api/articles", &signed, body.to_string().as_bytes())
            },
            422,
            Names("tagList"),
        ),
        whole(
            "title of another type",
            {
                let mut body = article("T", &[]);
                body["article"]["title"] = json!(1);
                request("POST /api/articles", &signed, body.to_string().as_bytes())
            },
            422,
            Names("title"),
        ),
        Case {
            what: "a body that never ends",
            input: Input::Stalled(
                b"POST /api/users HTTP/1.1\r\nhost: q\r\ncontent-type: application/json\r\n\
                  content-length: 100\r\n\r\n{"
                    .to_vec(),
            ),
            status: 408,
            shape: Names("body"),
        },
        Case {
            what: "a body byte by byte",
            input: Input::Dripped(
                b"POST /api/users HTTP/1.1\r\nhost: q\r\ncontent-type: application/json\r\n\
                  content-length: 1000000\r\n\r\n{"
                    .to_vec(),
                b' ',
            ),
            status: 408,
            shape: Names("body"),
        },
    ]
}

fn heads() -> Vec<Case> {
    let many: Vec<(String, String)> = (0..5_000).map(|n| (format!("x-{n}"), "x".into())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let huge = "x".repeat(1024 * 1024);
    let long_path = format!("/api/profiles/{}", "x".repeat(100_000));
    vec![
        whole("a flood of headers", request("GET /api/tags", &many, b""), 431, Bare),
        whole("a huge header", request("GET /api/tags", &[("x-huge", &huge)], b""), 431, Bare),
        whole("a huge path", get(&long_path), 431, Bare),
        whole("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, Bare),
        whole("an unknown version", b"GET / HTTP/9.9\r\n\r\n".to_vec(), 400, Bare),
        whole(
            "two lengths",
            b"POST /api/users HTTP/1.1\r\nhost: q\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{}"
                .to_vec(),
            400,
            Bare,
        ),
        whole(
            "a negative length",
            b"POST /api/users HTTP/1.1\r\nhost: q\r\ncontent-length: -1\r\n\r\n".to_vec(),
            400,
            Bare,
        ),
        whole(
            "a NUL in a header",
            b"GET /api/tags HTTP/1.1\r\nhost: q\r\nx-a: b\0c\r\n\r\n".to_vec(),
            400,
            Bare,
        ),
        Case {
            what: "a head that never ends",
            input: Input::Stalled(b"GET /api/tags HTTP/1.1\r\nhost: q\r\nx-a: ".to_vec()),
            status: 0,
            shape: Closed,
        },
        Case {
            what: "a head byte by byte",
            input: Input::Dripped(b"GET /api/tags HTTP/1.1\r\nhost: q\r\nx-a: ".to_vec(), b'x'),
            status: 0,
            shape: Closed,
        },
        Case {
            what: "a connection without a request",
            input: Input::Stalled(Vec::new()),
            status: 0,
            shape: Closed,
        },
    ]
}

fn paths() -> Vec<Case> {
    let odd = |what, path: &str, field| whole(what, get(path), 404, Names(field));
    vec![
        odd("an unknown route of the API", "/api/nothing", "path"),
        odd("the API itself", "/api", "path"),
        odd("one segment too many", "/api/tags/x", "path"),
        whole("an unknown route elsewhere", get("/nothing"), 404, Problem),
        whole("a name that only begins alike", get("/apix"), 404, Problem),
        whole("the root", get("/"), 404, Problem),
        whole("a path upwards", get("/../../etc/passwd"), 404, Problem),
        whole("a path upwards, encoded", get("/%2e%2e/%2e%2e/etc/passwd"), 404, Problem),
        odd("a path upwards in the API", "/api/../signing.key", "path"),
        odd("a slug upwards", "/api/articles/..%2f..%2fsigning.key", "article"),
        odd("a slug with NUL", "/api/articles/a%00b", "article"),
        odd("a slug of another script", "/api/articles/%E5%90%8D%E5%89%8D", "article"),
        odd("a name upwards", "/api/profiles/..%2f..%2fetc", "profile"),
        odd("a name with NUL", "/api/profiles/a%00b", "profile"),
        whole("broken UTF-8 in a path", get("/api/profiles/%ff%fe"), 400, Names("request")),
        whole("broken UTF-8 in a query", get("/api/articles?tag=%ff"), 422, Names("tag")),
        whole("a percent that begins nothing", get("/api/articles?limit=%zz"), 422, Names("limit")),
        whole(
            "a method that is not there",
            request("DELETE /api/users", &[], b""),
            405,
            Names("method"),
        ),
        whole("PATCH", request("PATCH /api/user", &[], b""), 405, Names("method")),
        whole("a method nobody knows", request("BREW /api/tags", &[], b""), 405, Names("method")),
        whole("TRACE", request("TRACE /api/tags", &[], b""), 405, Names("method")),
        whole("a limit of 0", get("/api/articles?limit=0"), 422, Names("limit")),
        whole("a limit too large", get("/api/articles?limit=101"), 422, Names("limit")),
        whole("a negative limit", get("/api/articles?limit=-1"), 422, Names("limit")),
        whole("a limit of words", get("/api/articles?limit=ten"), 422, Names("limit")),
        whole(
            "a huge limit",
            get("/api/articles?limit=340282366920938463463374607431768211456"),
            422,
            Names("limit"),
        ),
        whole("a negative offset", get("/api/articles?offset=-20"), 422, Names("offset")),
        whole("an offset too large", get("/api/articles?offset=10001"), 422, Names("offset")),
        whole(
            "a huge offset",
            get("/api/articles?offset=18446744073709551616"),
            422,
            Names("offset"),
        ),
        whole("an offset of words", get("/api/articles?offset=%00"), 422, Names("offset")),
    ]
}

fn fields(token: &str) -> Vec<Case> {
    let bearer = format!("Token {token}");
    let signed: [(&str, &str); 2] = [JSON, ("authorization", &bearer)];
    let user = |what, field: &'static str, value: String| {
        let mut body = registration("nobody");
        body["user"][field] = json!(value);
        whole(what, post_user(body.to_string().as_bytes()), 422, Names(field))
    };
    let own = |what, field: &'static str, value: String| {
        let body = json!({"user": {field: value}}).to_string();
        whole(what, request("PUT /api/user", &signed, body.as_bytes()), 422, Names(field))
    };
    let written = |what, field: &'static str, value: Value| {
        let mut body = article("T", &[]);
        body["article"][field] = value;
        let bytes = request("POST /api/articles", &signed, body.to_string().as_bytes());
        whole(what, bytes, 422, Names(field))
    };
    let many: Vec<String> = (0..11).map(|n| n.to_string()).collect();
    vec![
        user("a reserved name", "username", "admin".into()),
        user("a reserved name, other case", "username", "Deleted".into()),
        user("a reserved name, full width", "username", "\u{FF41}\u{FF50}\u{FF49}".into()),
        user("a zero-width joiner in a name", "username", "jo\u{200D}e".into()),
        user("a soft hyphen in a name", "username", "jo\u{AD}e".into()),
        user("a turn of direction in a name", "username", "jo\u{202E}e".into()),
        user("a filler as a name", "username", "\u{3164}".into()),
        user("NUL in a name", "username", "jo\0e".into()),
        user("a slash in a name", "username", "jo/e".into()),
        user("a blank in a name", "username", "jo e".into()),
        user("a name of dots", "username", "..".into()),
        user("a name of 41 characters", "username", "x".repeat(41)),
        user("an address without @", "email", "nobody".into()),
        user("an address with two @", "email", "a@b@c".into()),
        user("an address with a line break", "email", "a@b\r\nbcc: c@d".into()),
        user("an address too long", "email", format!("a@{}", "b".repeat(300))),
        user("a password too short", "password", "1234567".into()),
        user("a password too long", "password", "x".repeat(257)),
        own("a bio too long", "bio", "x".repeat(2001)),
        own("NUL in a bio", "bio", "a\0b".into()),
        own("an image that is a script", "image", "javascript:alert(1)".into()),
        own("an image too long", "image", format!("https://{}", "x".repeat(2000))),
        written("NUL in a title", "title", json!("a\0b")),
        written("NUL in a body", "body", json!("a\0b")),
        written("a title too long", "title", json!("x".repeat(301))),
        written("a description too long", "description", json!("x".repeat(1001))),
        written("a body too long", "body", json!("x".repeat(256 * 1024 + 1))),
        written("too many tags", "tagList", json!(many)),
        written("a tag too long", "tagList", json!(["x".repeat(41)])),
        written("an empty tag", "tagList", json!([""])),
        written("NUL in a tag", "tagList", json!(["a\0b"])),
    ]
}

/// Tokens that only look like ours. `good` is a valid one of the user.
fn forged(node: &TestNode, good: &str) -> Vec<(&'static str, String)> {
    let secret = std::fs::read(node.data_dir().join("signing.key")).unwrap();
    let header = jsonwebtoken::decode_header(good).unwrap();
    let mut parts = good.split('.');
    let (_, payload, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    let claims: Value = jsonwebtoken::dangerous::insecure_decode(good).unwrap().claims;
    let sign = |algorithm: Algorithm, secret: &[u8], claims: &Value| {
        let header = Header { alg: algorithm, ..header.clone() };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    assert_eq!(sign(Algorithm::HS256, &secret, &claims).split('.').count(), 3);
    let changed = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        sign(Algorithm::HS256, &secret, &claims)
    };
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    vec![
        ("a token past its time", changed("exp", json!(1))),
        ("a token of an older generation", changed("gen", json!(99))),
        ("a token of a user who is not there", changed("sub", json!("0000000000001"))),
        ("a token of nobody", changed("sub", json!("<script>"))),
        ("a token of a foreign key", sign(Algorithm::HS256, &[7; 32], &claims)),
        ("a token of an empty key", sign(Algorithm::HS256, b"", &claims)),
        ("a token of another algorithm", sign(Algorithm::HS384, &secret, &claims)),
        ("alg none", format!("{none}.{payload}.")),
        ("alg none with our signature", format!("{none}.{payload}.{signature}")),
        ("a token without signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
        ("a token with a changed signature", format!("{good}A")),
        ("a token of one part", "abc".into()),
        ("a token of dots", "..".into()),
        ("a huge token", "x".repeat(8 * 1024)),
        ("no token after the scheme", String::new()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_refused_and_harms_nothing() {
    let node = TestNode::builder()
        .shards(4)
        .set("header_timeout_ms", PATIENCE_MS)
        .set("body_timeout_ms", PATIENCE_MS)
        .start()
        .await;
    let mut jake = register(&node, "jake").await;
    let slug = jake.create_slug("Before", &[]).await;
    let forged = forged(&node, jake.token());
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in table(jake.token(), &forged) {
        count += 1;
        if let Err(error) = check(&node, &case).await {
            wrong.push(format!("{}: {error}", case.what));
        }
        // On a connection of its own: this node soon closes one that waits.
        let mut client = node.client();
        client.set_token(jake.token());
        let serves = client.send("GET", "/api/user", None).await;
        assert!(serves.is_ok_and(|answer| answer.status == 200), "after {}", case.what);
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));

    jake.get(&format!("/api/articles/{slug}")).await.expect(200);
    let listed = jake.get("/api/articles").await.expect(200).json();
    assert_eq!(listed["articlesCount"], 1, "nothing of it was written");
    jake.get("/api/profiles/nobody").await.expect(404);
    node.ops().get("/readyz").await.expect(200);
    let log = node.stderr_text();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains(jake.token()), "no token is ever logged");
}

async fn check(node: &TestNode, case: &Case) -> Result<(), String> {
    let mut connection = Connection::open(node.api()).await.map_err(|error| error.to_string())?;
    let answer = match &case.input {
        Input::Whole(bytes) | Input::Stalled(bytes) => {
            // A refusal may come before everything is sent.
            let _ = connection.write(bytes).await;
            connection.response().await
        }
        Input::Dripped(bytes, byte) => {
            let _ = connection.write(bytes).await;
            let mut pause = tokio::time::interval(Duration::from_millis(PATIENCE_MS / 8));
            let mut drips = 0;
            loop {
                pause.tick().await;
                drips += 1;
                if drips > 80 {
                    return Err(format!("{drips} bytes one by one were waited for"));
                }
                // What the other side has closed cannot be written to, from the second time on.
                if connection.write(&[*byte]).await.is_err() || connection.has_ended() {
                    break connection.response().await;
                }
            }
        }
    };
    match (answer, &case.shape) {
        (Err(_), Closed) => Ok(()),
        (Err(error), _) if error.kind() == ErrorKind::TimedOut => Err("no answer in time".into()),
        (Err(error), _) => Err(format!("no answer: {error}")),
        (Ok(answer), shape) => check_answer(&answer, case.status, shape)
            .map_err(|error| format!("{error}: {} {}", answer.status, answer.text())),
    }
}

fn check_answer(answer: &Response, status: u16, shape: &Shape) -> Result<(), String> {
    if let Closed = shape {
        // To say why before closing is fine, too.
        return if answer.status == 408 { Ok(()) } else { Err("expected the end".into()) };
    }
    if answer.status != status {
        return Err(format!("expected {status}"));
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let expected_kind = match shape {
        Names(_) => "application/json",
        Problem => "application/problem+json",
        Bare | Closed => return Ok(()),
    };
    if kind != expected_kind {
        return Err(format!("content type {kind:?}"));
    }
    if answer.header("x-content-type-options") != Some("nosniff") {
        return Err("a browser may take it for something else".into());
    }
    if answer.header("x-request-id").is_none() {
        return Err("it has no request id".into());
    }
    let body: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let right = match shape {
        Names(field) => is_real_world(&body, field),
        Problem => is_problem(&body, status),
        Bare | Closed => true,
    };
    if right { Ok(()) } else { Err("another body".into()) }
}

/// `{"errors":{"<field>":["<message>"]}}`
fn is_real_world(body: &Value, field: &str) -> bool {
    let errors = body["errors"].as_object();
    let messages = errors.and_then(|errors| errors.get(field)).and_then(Value::as_array);
    body.as_object().is_some_and(|body| body.len() == 1)
        && errors.is_some_and(|errors| errors.len() == 1)
        && messages.is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_string))
}

fn is_problem(body: &Value, status: u16) -> bool {
    let text = |name: &str| body[name].as_str().is_some_and(|text| !text.is_empty());
    ["type", "title", "detail", "code", "request_id"].into_iter().all(text)
        && body["status"] == status
        && body["errors"].is_array()
}

/// What is stored is text: it comes back as it was sent, as JSON, and as nothing else.
#[tokio::test]
async fn text_that_looks_like_code_stays_text() {
    let node = TestNode::builder().start().await;
    let mut jake = register(&node, "jake").await;
    let texts = [
        "<script>alert(1)</script>",
        "</title><img src=x onerror=alert(1)>",
        "'; DROP TABLE posts; --",
        "{{7*7}} ${jndi:ldap://x} %s%n",
        "\"}],\"admin\":true,\"x\":[{\"",
        "\\u0000 \\ \" \u{2028}\u{2029}\u{7f}\u{1}\t",
        "\u{202E}right to left\u{202C} \u{1F469}\u{200D}\u{1F4BB} e\u{301}",
    ];
    for text in texts {
        let body = json!({"article": {
            "title": text, "description": text, "body": text, "tagList": [text],
        }});
        let created = jake.post("/api/articles", &body).await.expect(201);
        assert_plain(&created);
        let slug = created.json()["article"]["slug"].as_str().unwrap().to_owned();
        jake.comment(&slug, text).await;
        jake.put("/api/user", &json!({"user": {"bio": text}})).await.expect(200);

        let mut client: HttpClient = node.client();
        let found = client.get(&format!("/api/articles/{slug}")).await.expect(200);
        assert_plain(&found);
        let article = found.json()["article"].clone();
        for field in ["title", "description", "body"] {
            assert_eq!(article[field], text);
        }
        assert_eq!(article["tagList"], json!([text]));
        assert_eq!(article["author"]["bio"], text);
        let comments = client.get(&format!("/api/articles/{slug}/comments")).await.expect(200);
        assert_plain(&comments);
        assert_eq!(comments.json()["comments"][0]["body"], text);
        let tagged = client.get(&format!("/api/articles?tag={}", encode(text))).await.expect(200);
        assert_plain(&tagged);
        assert_eq!(tagged.json()["articlesCount"], 1, "{text}");
        let tags = client.get("/api/tags").await.expect(200);
        assert_plain(&tags);
        assert!(tags.json()["tags"].as_array().unwrap().contains(&json!(text)), "{text}");
    }
}

/// A browser takes it for JSON, whatever is in it.
#[track_caller]
fn assert_plain(answer: &Response) {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}
