//! The documentation of `/v1`, generated from its handlers.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use crate::http::error::Problem;
use crate::http::v1::table;

/// What stands before the endpoints.
const DESCRIPTION: &str = "\
The native API of a Quire node. Members are snake_case, times RFC 3339 in UTC with microseconds, ids \
strings; unknown members are refused. Everything that fails is a problem (RFC 9457), whose `type` leads \
to a page that says what to do; what the viewer may not see is 404. Lists are read by cursor. Answers \
say in `RateLimit` how many requests are left in a minute.";

#[derive(OpenApi)]
#[openapi(
    info(title = "Quire", description = DESCRIPTION),
    components(schemas(Problem)),
    security((), ("token" = [])),
    tags(
        (name = "posts", description = "Reading, writing and publishing posts."),
        (name = "people", description = "What one makes of other users."),
        (name = "reader", description = "What one has read, and what one wishes to read."),
    ),
    modifiers(&Token),
)]
struct Api;

/// How a client says who it is.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// OpenAPI 3.1 of everything in the route table.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut routes = OpenApiRouter::with_openapi(Api::openapi());
    for (_, methods) in table() {
        routes = routes.routes(methods);
    }
    routes.into_openapi()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_table_is_documented_under_its_name() {
        for (path, (_, documented, _)) in table() {
            let documented: Vec<&String> = documented.paths.keys().collect();
            assert_eq!(documented, [path], "the table and the handlers differ");
        }
        assert_eq!(document().paths.paths.len(), table().len());
    }

    #[test]
    fn the_committed_documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        let now = document().to_pretty_json().unwrap() + "\n";
        if std::env::var_os("QUIRE_UPDATE_DOCS").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(now == committed, "docs/openapi.json is old: run this with QUIRE_UPDATE_DOCS=1");
        assert!(now.contains("\"openapi\": \"3.1.0\""));
    }

    /// Programs are generated from it: every operation has a name of its own.
    #[test]
    fn no_two_operations_have_the_same_name() {
        let document = serde_json::to_value(document()).unwrap();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|methods| methods.as_object().unwrap().values());
        let mut names: Vec<_> = operations.map(|one| one["operationId"].to_string()).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((names.len(), names.contains(&"null".to_owned())), (all, false), "{names:?}");
    }

    /// Every `$ref` leads somewhere.
    #[test]
    fn what_the_documentation_refers_to_is_in_it() {
        let document = serde_json::to_value(document()).unwrap();
        let text = document.to_string();
        let mut references = 0;
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 10);
        assert!(document["components"]["securitySchemes"]["token"].is_object());
    }
}
