//! What an operator does about recommendations: experiments, their report, and evaluations.

use std::time::Duration;

use serde_json::Value;

use crate::cli::{fails, succeeds, text};
use crate::support::{TestNode, eventually, register};

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

const EXPERIMENTS: &str = r#"
    [[experiment]]
    name = "ranking"
    [[experiment.variants]]
    name = "ranker"
    buckets = 500
    method = "ranker"
    [[experiment.variants]]
    name = "trend"
    buckets = 500
    method = "trend"
"#;

/// What is counted of all variants.
fn sum(report: &Value, count: &str) -> u64 {
    let outcomes = report["outcomes"].as_array().expect("a report has outcomes");
    outcomes.iter().map(|outcome| outcome[count].as_u64().expect("a count is a number")).sum()
}

#[tokio::test]
async fn an_experiment_is_set_while_the_node_serves_and_its_report_has_intervals() {
    let node = TestNode::builder().start().await;
    let data = text(node.data_dir());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("experiments.toml");
    std::fs::write(&file, EXPERIMENTS).unwrap();
    let report = ["rec", "report", "--json", "--data-dir", data];
    let of = |name| [&report[..], &["--experiment", name]].concat();
    fails(&of("ranking"), 2, "there is no experiment `ranking`");
    succeeds(&["rec", "experiments", text(&file), "--data-dir", data]);
    let set = succeeds(&["rec", "experiments", "--data-dir", data]);
    assert!(set.contains("name = \"ranking\"") && set.contains("name = \"trend\""), "{set}");
    fails(&of("rank"), 2, "there is no experiment `rank`");

    let mut jake = register(&node, "jake").await;
    let slug = jake.create_slug("One", &[]).await;
    let mut readers = Vec::new();
    for name in ["anna", "kate", "luke"] {
        let mut reader = register(&node, name).await;
        eventually(Duration::from_secs(20), "the post is recommended", async || {
            let list = reader.get("/v1/recommendations").await.expect(200).json();
            (!list["data"].as_array().unwrap().is_empty()).then_some(())
        })
        .await;
        readers.push(reader);
    }
    // A read counts when it follows what was shown, and that is gathered before it is logged.
    let counts = async |what: &'static str, least: u64| {
        eventually(Duration::from_secs(20), what, async || {
            let told: Value = serde_json::from_str(&succeeds(&of("ranking"))).unwrap();
            (sum(&told, what) >= least).then_some(told)
        })
        .await
    };
    counts("shown", 3).await;
    readers[0].post_nothing(&format!("/api/articles/{slug}/favorite")).await.expect(200);
    let counted = counts("read", 1).await;
    assert!(sum(&counted, "answers") >= 3, "{counted}");
    for outcome in counted["outcomes"].as_array().unwrap() {
        let rate = &outcome["click_through"];
        let (value, margin) = (rate["value"].as_f64().unwrap(), rate["margin"].as_f64().unwrap());
        assert!((0.0..=1.0).contains(&value) && margin >= 0.0, "{outcome}");
    }
    let table = succeeds(&["rec", "report", "--data-dir", data]);
    assert!(table.contains("ranking/ranker") && table.contains("ranking/trend"), "{table}");

    let exposures = succeeds(&["rec", "exposures", "--data-dir", data]);
    let exposures: Vec<Value> =
        exposures.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(exposures.len() >= 3, "{exposures:?}");
    for (number, line) in exposures.iter().enumerate() {
        assert_eq!(line["number"], number, "{line}");
        assert!(line["variant"].as_str().unwrap().starts_with("ranking/"), "{line}");
        assert!(!line["request"].as_str().unwrap().is_empty() && line["reader"].is_string());
        assert_eq!(
            (&line["posts"][0]["position"], line["posts"].as_array().unwrap().len()),
            (&0.into(), 1)
        );
        assert!(line["posts"][0]["propensity"].as_f64().unwrap() > 0.0, "{line}");
    }
    let last = exposures.len() - 1;
    let from = |number: usize| {
        let from = number.to_string();
        succeeds(&["rec", "exposures", "--from", &from, "--data-dir", data])
    };
    assert_eq!((from(last).lines().count(), from(last + 1).as_str()), (1, ""));

    std::fs::write(&file, EXPERIMENTS.replacen("500", "501", 1)).unwrap();
    fails(&["rec", "experiments", text(&file), "--data-dir", data], 2, "1001 buckets");
    std::fs::write(&file, "").unwrap();
    succeeds(&["rec", "experiments", text(&file), "--data-dir", data]);
    fails(&of("ranking"), 2, "there is no experiment `ranking`");
}
