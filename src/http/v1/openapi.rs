//! The documentation of `/v1`, generated from its handlers.

use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::http::v1::table;

#[derive(OpenApi)]
#[openapi(info(title = "Quire", description = "The native API of a Quire node."))]
struct Api;

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
        assert!(!document().paths.paths.is_empty());
    }
}
