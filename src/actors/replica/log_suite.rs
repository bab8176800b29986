//! openraft's own tests of a log store, over a lane.

use std::path::Path;
use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tokio::sync::watch;

use crate::actors::replica::log_storage::LogStore;
use crate::actors::replica::port::Applier;
use crate::actors::replica::state_machine::{Progress, StateMachine};
use crate::actors::replica::tests::FakeShard;
use crate::actors::replica::types::TypeConfig;
use crate::ids::GroupId;
use crate::store::fault::FaultDisk;
use crate::store::log::{LaneOptions, LogLane};

/// Builds an empty store; what it returns first keeps it alive.
struct Builder {
    tail_bytes: usize,
}

type Guard = (Arc<LogLane>, watch::Sender<bool>);

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, StateMachine), StorageError<TypeConfig>> {
        let options = LaneOptions { tail_bytes: self.tail_bytes, ..LaneOptions::default() };
        let disk = FaultDisk::new();
        let lane = LogLane::open_with_backend(Path::new("lane"), disk.backend(), options).unwrap();
        let log = lane.group(GroupId(1)).unwrap();
        let applier = Arc::new(FakeShard::without_checks());
        let (stop, stopped) = watch::channel(false);
        let machine = StateMachine {
            incarnation: log.incarnation(),
            progress: Arc::new(Progress::new(&applier.applied()).unwrap()),
            applier,
            stop: stopped,
        };
        Ok(((lane, stop), LogStore::new(log), machine))
    }
}

/// All of `Suite::test_all` except the transfer of a snapshot to a peer.
#[tokio::test]
async fn the_log_store_passes_the_suite_of_openraft() {
    // The suite sleeps for 8 s; both ways to read are tried at the same time.
    tokio::join!(run_suite(0), run_suite(1 << 20));
}

async fn run_suite(tail_bytes: usize) {
    type S = Suite<TypeConfig, LogStore, StateMachine, Builder, Guard>;
    macro_rules! run {
        ($builder:ident, $($test:ident)*) => {$(
            let (_guard, store, machine) = $builder.build().await.unwrap();
            S::$test(store, machine).await.unwrap();
        )*};
    }
    let builder = Builder { tail_bytes };
    run!(builder,
        last_membership_in_log_initial last_membership_in_log
        last_membership_in_log_multi_step get_membership_initial
        get_membership_from_log_and_empty_sm get_membership_from_empty_log_and_sm
        get_membership_from_log_le_sm_last_applied
        get_membership_from_log_gt_sm_last_applied_1
        get_membership_from_log_gt_sm_last_applied_2
        get_initial_state_without_init get_initial_state_membership_from_empty_log_and_sm
        get_initial_state_membership_from_sm_inlog_is_smaller
        get_initial_state_membership_from_log_insm_is_smaller
        get_initial_state_with_state get_initial_state_last_log_gt_sm
        get_initial_state_last_log_lt_sm get_initial_state_inverted_log_order
        get_initial_state_conflict_at_same_index get_initial_state_log_ids
        get_initial_state_re_apply_committed save_vote get_log_entries
        limited_get_log_entries leader_bounded_stream entries_stream try_get_log_entry
        log_reader_reads_new_entries initial_logs get_log_state get_log_id last_id_in_log
        last_applied_state purge_logs_upto_0 purge_logs_upto_5 purge_logs_upto_20
        delete_logs_after_11 delete_logs_after_5 delete_logs_after_0 delete_logs_after_none
        append_to_log snapshot_meta snapshot_meta_optional apply_single apply_multiple
    );
}
