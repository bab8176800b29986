//! What an operator does about recommendations: evaluations.

use serde_json::Value;

use crate::cli::{fails, succeeds, text};

#[test]
fn an_evaluation_of_a_small_file_is_told_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let (events, drawn) = (folder.path().join("small.csv"), folder.path().join("small.svg"));
    let mut rows = "user,item,ts\n".to_owned();
    for n in 0..200_u64 {
        // Everybody reads the newest of twenty posts.
        rows += &format!("{},{},{}\n", n % 13, n / 10, 1_500_000_000_000 + n * 60_000);
    }
    std::fs::write(&events, rows).unwrap();
    let told = succeeds(&["rec", "eval", "--json", "--svg", text(&drawn), text(&events)]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["events"], &told["posts"]), (&200.into(), &20.into()), "{told}");
    assert!(told["predictions"].as_u64().unwrap() > 0, "{told}");
    for method in ["latest", "trend", "item_item", "ranker", "ranker_diverse"] {
        let rate = told["methods"][method]["hit_rate_10"].as_f64();
        assert!(rate.is_some_and(|rate| (0.0..=1.0).contains(&rate)), "{method}: {told}");
    }
    let drawn = std::fs::read_to_string(&drawn).unwrap();
    assert!(drawn.trim_start().starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
    std::fs::write(&events, "user,item,ts\n").unwrap();
    fails(&["rec", "eval", text(&events)], 2, "holds no event");
}
