//! Real processes that die, or freeze past their lease, at every place that has a name; then
//! another one finishes: nothing twice, nothing lost, and nothing left behind in the store.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use serde_json::{Value, json};
use strandline::fault::Fault;

use crate::harness::{HOUR, Record, TestApp, TestTopic, at, count_files, expire_leases, record};
use crate::process::Serving;

const SIGKILL: i32 = 9;

/// Small files and short leases, so that a crash meets a task of several files and is soon
/// noticed. One worker as a rule: what it does is then in one order.
const SETTINGS: &[(&str, &str)] = &[
    ("STRANDLINE_WORKERS", "1"),
    ("STRANDLINE_LEASE_SECONDS", "1"),
    ("STRANDLINE_SEAL_INTERVAL_SECONDS", "1"),
    ("STRANDLINE_ORPHAN_GRACE_SECONDS", "1"),
    ("STRANDLINE_TARGET_FILE_BYTES", "16384"),
];

/// For who freezes and is woken before another may have its task.
const LONG_LEASE: (&str, &str) = ("STRANDLINE_LEASE_SECONDS", "3600");

/// One database and one store, for processes that come and go.
struct Scene {
    app: TestApp,
    topic: TestTopic,
}

impl Scene {
    async fn set() -> Self {
        let scene = Scene { app: TestApp::spawn().await, topic: TestTopic::create(2, &[]).await };
        let value = |number: i64| format!("{number}:{:?}", uuid::Uuid::new_v4()).repeat(8);
        let mut records: Vec<Record> =
            (0..400).map(|i| record((i % 2) as i32, i, &value(i))).collect();
        records.extend([record(0, HOUR, "end"), record(1, HOUR, "end")]);
        scene.topic.produce(&records).await;
        scene
    }

    /// A replica, which dies or freezes where `fault` says.
    fn replica(&self, fault: Option<&str>) -> Serving {
        self.replica_with(fault, &[])
    }

    fn replica_with(&self, fault: Option<&str>, more: &[(&str, &str)]) -> Serving {
        let url = self.app.database_url();
        let storage = url::Url::from_directory_path(self.app.files()).expect("absolute");
        let mut settings = SETTINGS.to_vec();
        settings.push(("STRANDLINE_DATABASE_URL", &url));
        settings.push(("STRANDLINE_STORAGE_URL", storage.as_str()));
        settings.extend(more);
        settings.extend(fault.map(|fault| ("STRANDLINE_FAULT", fault)));
        Serving::start_with(self.app.files(), &settings)
    }

    /// Asks a replica for the window. It may die of it.
    async fn ask(&self, replica: &Serving) {
        let body = json!({
            "topic": self.topic.name, "window_start": at(0), "window_end": at(HOUR)});
        let request = self.app.http.post(format!("{}/v1/snapshots", replica.url)).json(&body);
        let _ = request.send().await;
    }

    /// Asks a replica that freezes, perhaps before it has answered.
    async fn ask_until_frozen(&self, replica: &Serving) {
        let asking = async {
            self.ask(replica).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = asking => {}
            () = replica.frozen() => {}
        }
    }

    /// The snapshot, once it has succeeded: where a lease lasts a second, each stall of the machine
    /// costs a task its worker.
    async fn succeeded(&self) -> Value {
        let body = json!({
            "topic": self.topic.name, "window_start": at(0), "window_end": at(HOUR)});
        for _ in 0..5 {
            let asked = self.app.post("/v1/snapshots?wait=60&expect=sealed", &body).await;
            if asked.0 != 504 {
                assert_eq!(asked.0, 200, "{}", asked.1);
                return asked.1;
            }
        }
        panic!("five minutes were not enough for {body}");
    }

    /// Everything that has to hold in the end.
    async fn check(&self, snapshot: &Value) {
        let window: Vec<_> = self
            .topic
            .read_all()
            .into_iter()
            .filter(|event| event.offset < 200)
            .map(|event| (event.partition, event.offset, event.value))
            .collect();
        let events = self.app.events(snapshot).await;
        let stored: Vec<_> = events
            .iter()
            .map(|event| {
                let number = |name: &str| event[name].as_i64().expect("a number");
                let value = event["value"].as_str().map(|value| value.as_bytes().to_vec());
                (number("partition") as i32, number("offset"), value)
            })
            .collect();
        assert_eq!(stored, window, "the events of the window, each of them once");
        assert_eq!(snapshot["result"]["records"], 400);
        assert_eq!(snapshot["result"]["lost_offsets"], 0);
        let partitions = self.app.detail(snapshot, "partitions").await;
        for partition in &partitions {
            assert_eq!(partition["stored_offsets"], 200, "{partition}");
        }
        let files = self.app.detail(snapshot, "files").await;
        assert!(files.len() > 2, "a task of several files");
        let records: i64 = files.iter().map(|f| f["records"].as_i64().expect("a number")).sum();
        assert_eq!(records, 400, "no event is in two files");
        self.until_swept(files.len()).await;
        for file in &files {
            let url = url::Url::parse(file["url"].as_str().expect("a URL")).expect("a URL");
            let path = url.to_file_path().expect("a path");
            assert_eq!(path.metadata().expect("it is there").len(), file["bytes"]);
        }
    }

    /// Waits until there are no data files in the store but the snapshot's.
    async fn until_swept(&self, files: usize) {
        for _ in 0..2400 {
            if count_files(self.app.files()) == files {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} files are there instead of {files}", count_files(self.app.files()));
    }
}

/// A replica dies at the place; another one, which has been there or comes, finishes.
async fn dies(fault: Fault, times: u32) {
    let scene = Scene::set().await;
    let mut dying = scene.replica(Some(&format!("{}@{times}", fault.as_str())));
    scene.ask(&dying).await;
    let status = dying.ended().await;
    assert_eq!(status.signal(), Some(SIGKILL), "{fault:?} was never reached:\n{}", dying.log());
    let _other = scene.replica(None);
    let snapshot = scene.succeeded().await;
    scene.check(&snapshot).await;
}

/// A replica freezes at the place for longer than its lease. Another one finishes meanwhile,
/// and what the first one does when it goes on changes nothing.
async fn freezes(fault: Fault, times: u32) {
    let scene = Scene::set().await;
    let frozen = scene.replica(Some(&format!("{}@{times}=freeze", fault.as_str())));
    scene.ask_until_frozen(&frozen).await;
    let mut other = scene.replica(None);
    let before = scene.succeeded().await;
    other.signal("TERM");
    assert_eq!(other.ended().await.code(), Some(0), "{}", other.log());
    frozen.signal("CONT");
    // The zombie has one worker: once it has done another snapshot, it is through with this.
    let (_, next) = scene.app.ask(&scene.topic.name, HOUR, 2 * HOUR).await;
    let path = format!("{}?wait=60", next["links"]["self"].as_str().expect("a path"));
    let mut next = scene.app.get(&path).await.1;
    for _ in 0..4 {
        if next["finished_at"].is_null() {
            next = scene.app.get(&path).await.1;
        }
    }
    assert_eq!(next["state"], "succeeded", "{next}\n{}", frozen.log());
    let (_, after) = scene.app.get(before["links"]["self"].as_str().expect("a path")).await;
    assert_eq!(after, before);
    // The next window's two events are in a file of their own.
    let files = scene.app.detail(&next, "files").await.len();
    assert_eq!(files, 1);
    std::fs::remove_file(file_of(&scene.app.detail(&next, "files").await[0])).expect("removed");
    scene.check(&after).await;
}

/// Outside of the work itself, where nothing but the one who works stands around it.
#[tokio::test]
async fn a_replica_goes_on_by_itself_where_a_defect_ends_what_it_keeps_doing() {
    let scene = Scene::set().await;
    let replica = scene.replica(Some("after_claim=panic,heartbeat=panic,sweep_listed=panic"));
    scene.ask(&replica).await;
    let snapshot = scene.succeeded().await;
    let file = file_of(&scene.app.detail(&snapshot, "files").await[0]);
    let orphan = file.with_file_name(format!("{}-1.parquet", uuid::Uuid::new_v4()));
    std::fs::copy(&file, &orphan).expect("copied");
    scene.check(&snapshot).await;
    let panics = replica.log().lines().filter(|line| line.starts_with("a defect ")).count();
    assert_eq!(panics, 3, "{}", replica.log());
}

fn file_of(file: &Value) -> std::path::PathBuf {
    let url = url::Url::parse(file["url"].as_str().expect("a URL")).expect("a URL");
    url.to_file_path().expect("a path")
}

macro_rules! at_each {
    ($run:ident: $($name:ident = $fault:ident @ $times:literal,)+) => {
        mod $run {
            use strandline::fault::Fault;
            /// What is tried here.
            pub const TRIED: &[Fault] = &[$(Fault::$fault),+];
            $(
                #[tokio::test]
                async fn $name() {
                    super::$run(Fault::$fault, $times).await;
                }
            )+
        }
    };
}

at_each! { dies:
    after_a_request = AfterRequest @ 1,
    after_the_claim_of_a_plan = AfterClaim @ 1,
    after_the_claim_of_a_read = AfterClaim @ 2,
    after_the_claim_of_a_finish = AfterClaim @ 3,
    after_the_look = AfterLook @ 1,
    in_the_plan = InPlan @ 1,
    before_the_commit_of_a_plan = BeforePlanCommit @ 1,
    after_the_plan = AfterPlan @ 1,
    with_a_reader = ReaderMade @ 1,
    at_the_first_event = FirstEvent @ 1,
    in_a_range = MidRange @ 5,
    in_the_second_file = MidRange @ 150,
    after_a_range = RangeRead @ 1,
    before_the_footer = BeforeFooter @ 1,
    before_the_footer_of_the_second_file = BeforeFooter @ 2,
    before_the_upload_ends = BeforeUploadEnds @ 1,
    after_the_upload = AfterUpload @ 1,
    after_the_second_upload = AfterUpload @ 2,
    in_the_commit = InCommit @ 1,
    before_the_commit = BeforeCommit @ 2,
    after_the_commit = AfterCommit @ 1,
    between_files = BetweenFiles @ 1,
    before_the_finish = BeforeFinish @ 1,
    in_the_finish = InFinish @ 1,
    after_the_finish = AfterFinish @ 1,
    when_it_seals = Sealing @ 1,
}

at_each! { freezes:
    after_the_claim_of_a_plan = AfterClaim @ 1,
    after_the_look = AfterLook @ 1,
    after_the_plan = AfterPlan @ 1,
    at_the_first_event = FirstEvent @ 1,
    in_the_second_file = MidRange @ 150,
    before_the_footer = BeforeFooter @ 1,
    before_the_upload_ends = BeforeUploadEnds @ 1,
    after_the_upload = AfterUpload @ 1,
    after_the_commit = AfterCommit @ 1,
    between_files = BetweenFiles @ 1,
    before_the_finish = BeforeFinish @ 1,
    at_a_heartbeat = Heartbeat @ 1,
}

#[test]
fn every_fault_is_tried() {
    // These have tests of their own below.
    let own = [Fault::SweepListed, Fault::SweepChecked, Fault::InCancel, Fault::Draining];
    let tried = [dies::TRIED, freezes::TRIED, &own].concat();
    let untried: Vec<_> = Fault::ALL.iter().filter(|fault| !tried.contains(fault)).collect();
    assert!(untried.is_empty(), "{untried:?}");
}

/// A sweeper that dies leaves the rest to the next; neither takes a file that is named.
async fn sweeper_dies(fault: Fault) {
    let scene = Scene::set().await;
    let mut first = scene.replica(Some("after_upload@2"));
    scene.ask(&first).await;
    first.ended().await;
    let mut second = scene.replica(Some(fault.as_str()));
    assert_eq!(second.ended().await.signal(), Some(SIGKILL));
    let _third = scene.replica(None);
    let snapshot = scene.succeeded().await;
    scene.check(&snapshot).await;
}

#[tokio::test]
async fn the_sweeper_dies_after_it_has_listed() {
    sweeper_dies(Fault::SweepListed).await;
}

#[tokio::test]
async fn the_sweeper_dies_before_it_removes() {
    sweeper_dies(Fault::SweepChecked).await;
}

#[tokio::test]
async fn a_cancel_that_dies_half_way_cancels_nothing() {
    let scene = Scene::set().await;
    let (_, snapshot) = scene.app.ask(&scene.topic.name, 0, HOUR).await;
    let path = snapshot["links"]["self"].as_str().expect("a path");
    let mut dying = scene.replica_with(Some("in_cancel"), &[("STRANDLINE_WORKERS", "0")]);
    let _ = scene.app.http.post(format!("{}{path}/cancel", dying.url)).send().await;
    assert_eq!(dying.ended().await.signal(), Some(SIGKILL));
    let (_, after) = scene.app.get(path).await;
    assert_eq!(after["state"], "queued");
    let _other = scene.replica(None);
    let snapshot = scene.succeeded().await;
    scene.check(&snapshot).await;
}

/// Told to stop in the middle of a file, a replica stores what it has read, and the task is
/// free at once: nobody waits for its lease.
#[tokio::test]
async fn a_replica_that_stops_keeps_what_it_has_read_and_frees_its_task() {
    let scene = Scene::set().await;
    let mut stopping = scene.replica_with(Some("mid_range@100=freeze"), &[LONG_LEASE]);
    scene.ask_until_frozen(&stopping).await;
    stopping.signal("TERM");
    stopping.signal("CONT");
    assert_eq!(stopping.ended().await.code(), Some(0), "{}", stopping.log());
    let client = scene.app.db().client().await.expect("a connection");
    let sql = "SELECT count(*) FILTER (WHERE lease_expires_at IS NOT NULL),
        (SELECT sum(records)::bigint FROM segments) FROM tasks WHERE ended_at IS NULL";
    let row = client.query_one(sql, &[]).await.expect("counted");
    assert_eq!(row.get::<_, i64>(0), 0, "no lease is left");
    assert!(row.get::<_, Option<i64>>(1).unwrap_or(0) >= 100, "{}", stopping.log());
    let _other = scene.replica(None);
    let snapshot = scene.succeeded().await;
    scene.check(&snapshot).await;
}

#[tokio::test]
async fn a_replica_that_dies_while_it_stops_loses_nothing() {
    let scene = Scene::set().await;
    let mut stopping = scene.replica_with(Some("first_event=freeze,draining"), &[LONG_LEASE]);
    scene.ask_until_frozen(&stopping).await;
    stopping.signal("TERM");
    stopping.signal("CONT");
    assert_eq!(stopping.ended().await.signal(), Some(SIGKILL));
    expire_leases(&scene.app).await;
    let _other = scene.replica(None);
    let snapshot = scene.succeeded().await;
    scene.check(&snapshot).await;
}
