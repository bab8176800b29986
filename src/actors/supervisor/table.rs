//! The table of child specs in `supervision.md`, made from the specs themselves.

use std::fmt::Write;
use std::time::Duration;

use crate::actors::supervisor::budget::{Backoff, RestartBudget};
use crate::actors::supervisor::spec::{
    ChildKind, ChildSpec, RestartType, Strategy, SupervisorSpec,
};

/// One Markdown table: a row for the root and for each child, in the order of their start.
pub fn spec_table(root: &SupervisorSpec) -> String {
    let mut table = String::from(
        "| path | restart | strategy | budget | back-off | shutdown |\n|---|---|---|---|---|---|\n",
    );
    let shutdown = span(root.shutdown_timeout());
    row(&mut table, [&root.id, "–", strategy(root.strategy), &all(root.budget), "–", &shutdown]);
    for child in &root.children {
        child_rows(&mut table, &root.id, child);
    }
    table
}

fn child_rows(table: &mut String, parent: &str, child: &ChildSpec) {
    let path = format!("{parent}/{}", child.id);
    let below = match &child.kind {
        ChildKind::Worker(_) => None,
        ChildKind::Supervisor(below) => Some(below),
    };
    let budgets: Vec<String> = [
        child.budget.map(|budget| format!("{} itself", limit(budget))),
        child.dependency_budget.map(|budget| format!("{} by dependency", limit(budget))),
        below.map(|below| all(below.budget)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let budget = match budgets.is_empty() {
        true => "its supervisor's".to_owned(),
        false => budgets.join(", "),
    };
    let restart = match child.restart {
        RestartType::Permanent => "permanent",
        RestartType::Transient => "transient",
        RestartType::Temporary => "temporary",
    };
    let restart = match child.in_background {
        true => format!("{restart}, started in the background"),
        false => restart.to_owned(),
    };
    let backoff = match child.restart {
        RestartType::Temporary => "–".to_owned(),
        RestartType::Permanent | RestartType::Transient => pauses(&child.backoff),
    };
    let strategy = below.map_or("–", |below| strategy(below.strategy));
    let shutdown = span(child.shutdown_timeout());
    row(table, [&path, &restart, strategy, &budget, &backoff, &shutdown]);
    for child in below.iter().flat_map(|below| &below.children) {
        child_rows(table, &path, child);
    }
}

fn row(table: &mut String, [path, cells @ ..]: [&str; 6]) {
    writeln!(table, "| `{path}` | {} |", cells.join(" | "))
        .expect("writing to a string cannot fail");
}

fn strategy(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::OneForOne => "one-for-one",
        Strategy::OneForAll => "one-for-all",
        Strategy::RestForOne => "rest-for-one",
    }
}

fn limit(budget: RestartBudget) -> String {
    format!("{} in {}", budget.restarts, span(budget.window))
}

fn all(budget: RestartBudget) -> String {
    format!("{} for its children", limit(budget))
}

fn pauses(backoff: &Backoff) -> String {
    format!("0, then {} to {}", span(backoff.initial), span(backoff.max))
}

/// Whole seconds where that is exact, else milliseconds.
pub(super) fn span(span: Duration) -> String {
    match span.subsec_millis() {
        0 => format!("{} s", span.as_secs()),
        _ => format!("{} ms", span.as_millis()),
    }
}
