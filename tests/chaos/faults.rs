//! What is done to a fleet: drawn from a seed, one thing after the other, in two strands that
//! overlap, of which one is about processes and one about services and the ways to them.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::fleet::Fleet;
use crate::leaders::move_leaders;
use crate::oracle::Oracle;
use crate::proxy::{Mode, Outcome, Proxy, Trap};
use crate::replica::Replica;
use crate::services::{BROKERS, cluster};
use crate::topics::Topic;

/// SIGTERM has to end a replica within this: what it takes at most by its own limits, and as much
/// again for a busy machine.
pub const TERMINATES_WITHIN: Duration = Duration::from_secs(45);

/// What was done and what went wrong, with the time of each.
pub struct Journal {
    started: Instant,
    file: Mutex<std::fs::File>,
    faults: Mutex<BTreeMap<String, u64>>,
    differences: Mutex<Vec<String>>,
}

impl Journal {
    pub fn new(folder: &std::path::Path) -> Self {
        let file = std::fs::File::create(folder.join("journal.log")).expect("a journal");
        Journal {
            started: Instant::now(),
            file: Mutex::new(file),
            faults: Mutex::default(),
            differences: Mutex::default(),
        }
    }

    pub fn say(&self, what: &str) {
        let mut file = self.file.lock().expect("no panic");
        writeln!(file, "{:8.3} {what}", self.started.elapsed().as_secs_f64()).expect("room");
    }

    fn fault(&self, kind: &str, what: &str) {
        self.say(&format!("fault {kind}: {what}"));
        *self.faults.lock().expect("no panic").entry(kind.to_owned()).or_default() += 1;
    }

    /// Something that must not be.
    pub fn differs(&self, what: String) {
        self.say(&format!("DIFFERENCE {what}"));
        self.differences.lock().expect("no panic").push(what);
    }

    pub fn faults(&self) -> BTreeMap<String, u64> {
        self.faults.lock().expect("no panic").clone()
    }

    pub fn differences(&self) -> Vec<String> {
        self.differences.lock().expect("no panic").clone()
    }
}

/// Everything that faults happen to.
pub struct Scene {
    pub fleet: Arc<Fleet>,
    pub topics: Vec<Topic>,
    pub oracle: Oracle,
    pub journal: Journal,
    pub until: Instant,
}

impl Scene {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    async fn pause(&self, time: Duration) {
        let left = self.until.saturating_duration_since(Instant::now());
        tokio::time::sleep(time.min(left)).await;
    }

    /// Kills, stops and ends replicas until the time is over, and brings all back.
    pub async fn hurt_processes(&self, mut dice: Dice) {
        while self.goes_on() {
            self.pause(dice.millis(300, 2500)).await;
            if !self.goes_on() {
                return;
            }
            let number = dice.roll(self.fleet.replicas.len() as u64) as usize;
            let kind = dice.roll(10);
            let (held, wait) = (dice.millis(0, 3000), dice.millis(100, 5000));
            match kind {
                0..=3 => self.kill(number, held).await,
                4..=6 => self.stop_and_go_on(number, wait).await,
                7..=8 => self.terminate(number, held).await,
                _ => {
                    self.journal.fault("kill -9 of all replicas", "");
                    let all = (0..self.fleet.replicas.len()).map(|n| self.kill(n, held));
                    futures_util::future::join_all(all).await;
                }
            }
        }
    }

    async fn kill(&self, number: usize, away: Duration) {
        let gone = self.take(number).await;
        if let Some(mut replica) = gone {
            self.journal.fault("kill -9 of a replica", &replica.launch.name);
            replica.kill();
        }
        self.come_back(number, away).await;
    }

    /// A replica, to end it. None has ended before by itself.
    async fn take(&self, number: usize) -> Option<Replica> {
        let mut replica = self.fleet.replicas[number].lock().await.take()?;
        if let Some(status) = replica.ended() {
            let words = replica.last_words();
            self.journal.differs(format!("replica {number} ended by itself: {status}, {words}"));
        }
        Some(replica)
    }

    /// All replicas are there still.
    pub async fn look_at_replicas(&self) {
        for number in 0..self.fleet.replicas.len() {
            let replica = self.take(number).await;
            *self.fleet.replicas[number].lock().await = replica;
        }
    }

    async fn come_back(&self, number: usize, away: Duration) {
        self.pause(away).await;
        let attempts = self.fleet.restart(number).await;
        self.journal.say(&format!("replica {number} is back, starts that failed: {attempts}"));
    }

    /// Longer than the lease, mostly.
    async fn stop_and_go_on(&self, number: usize, extra: Duration) {
        let lease = Duration::from_secs(u64::from(self.fleet.settings.lease_seconds));
        if let Some(replica) = &mut *self.fleet.replicas[number].lock().await {
            self.journal.fault("SIGSTOP and SIGCONT", &replica.launch.name);
            replica.pause();
        }
        self.pause(lease + extra).await;
        if let Some(replica) = &mut *self.fleet.replicas[number].lock().await {
            replica.go_on();
        }
    }

    async fn terminate(&self, number: usize, away: Duration) {
        let gone = self.take(number).await;
        if let Some(mut replica) = gone {
            self.journal.fault("SIGTERM", &replica.launch.name);
            match replica.terminate(TERMINATES_WITHIN).await {
                Some((status, took)) if status.success() => {
                    self.journal.say(&format!("replica {number} ended after {took:?}"));
                }
                other => {
                    let words = replica.last_words();
                    self.journal.differs(format!("replica {number}, SIGTERM: {other:?}, {words}"));
                }
            }
        }
        self.come_back(number, away).await;
    }

    /// Hurts services and the ways to them until the time is over, and heals all.
    pub async fn hurt_services(&self, mut dice: Dice) {
        while self.goes_on() {
            self.pause(dice.millis(200, 1500)).await;
            if !self.goes_on() {
                return;
            }
            match dice.roll(20) {
                0..=2 if self.fleet.objects.proxy().is_some() => self.hurt_store(&mut dice).await,
                0..=6 => self.hurt_kafka(&mut dice).await,
                7..=11 => self.hurt_postgres(&mut dice).await,
                12..=13 => self.cut_commit(&mut dice).await,
                14 => self.kill_broker(&mut dice).await,
                15..=16 => self.move_some_leaders(&mut dice).await,
                17 => self.kill_postgres(&mut dice).await,
                18.. => self.delete_records(&mut dice).await,
            }
        }
    }

    async fn hurt_kafka(&self, dice: &mut Dice) {
        let (mode, hold) = (mode(dice), dice.millis(300, 6000));
        let one = dice.roll(BROKERS as u64) as usize;
        let all = dice.one_in(3);
        let which = if all { "all brokers".to_owned() } else { format!("broker {}", one + 1) };
        self.journal
            .fault(&format!("way to Kafka: {}", name(mode)), &format!("{which} {mode:?} {hold:?}"));
        let hurt: Vec<&Proxy> = match all {
            true => self.fleet.lane.proxies.iter().collect(),
            false => vec![&self.fleet.lane.proxies[one]],
        };
        self.hold(&hurt, mode, hold).await;
    }

    async fn hurt_postgres(&self, dice: &mut Dice) {
        let (mode, hold) = (mode(dice), dice.millis(300, 6000));
        let one = dice.roll(self.fleet.postgres.len() as u64) as usize;
        let all = dice.one_in(3);
        let which = if all { "all replicas".to_owned() } else { format!("replica {one}") };
        self.journal.fault(
            &format!("way to PostgreSQL: {}", name(mode)),
            &format!("{which} {mode:?} {hold:?}"),
        );
        let hurt: Vec<&Proxy> = match all {
            true => self.fleet.postgres.iter().collect(),
            false => vec![&self.fleet.postgres[one]],
        };
        self.hold(&hurt, mode, hold).await;
    }

    async fn hurt_store(&self, dice: &mut Dice) {
        let (mode, hold) = (mode(dice), dice.millis(300, 6000));
        let kind = format!("way to the store: {}", name(mode));
        self.journal.fault(&kind, &format!("{mode:?} {hold:?}"));
        self.hold(&self.fleet.objects.proxy().into_iter().collect::<Vec<_>>(), mode, hold).await;
    }

    async fn hold(&self, proxies: &[&Proxy], mode: Mode, time: Duration) {
        proxies.iter().for_each(|proxy| proxy.set(mode));
        self.pause(time).await;
        proxies.iter().for_each(|proxy| proxy.set(Mode::Pass));
    }

    /// The connection of one replica is cut at its next COMMIT of a file.
    async fn cut_commit(&self, dice: &mut Dice) {
        let late = dice.millis(100, 5000);
        let outcome = *dice.pick(&[Outcome::Landed, Outcome::NotLanded, Outcome::Late(late)]);
        let one = dice.roll(self.fleet.postgres.len() as u64) as usize;
        let proxy = &self.fleet.postgres[one];
        let before = proxy.counts().sprung;
        proxy.arm(Trap { outcome, ..COMMIT_OF_A_FILE }).await;
        self.journal.say(&format!("a trap for replica {one}: {outcome:?}"));
        let armed = Instant::now();
        while self.goes_on() && armed.elapsed() < Duration::from_secs(5) {
            if proxy.counts().sprung > before {
                self.journal
                    .fault("connection cut at COMMIT", &format!("replica {one} {outcome:?}"));
                break;
            }
            self.pause(Duration::from_millis(20)).await;
        }
        proxy.disarm().await;
    }

    async fn kill_broker(&self, dice: &mut Dice) {
        let broker = dice.between(1, BROKERS as u64).to_string();
        let away = dice.millis(0, 6000);
        self.journal.fault("kill -9 of a broker", &broker);
        self.must("kill", cluster(&["kill", &broker]).await);
        self.pause(away).await;
        self.must("start", cluster(&["start", &broker]).await);
    }

    async fn move_some_leaders(&self, dice: &mut Dice) {
        let topic = dice.pick(&self.topics);
        let leader = dice.between(1, BROKERS as u64) as i32;
        let partitions: Vec<i32> = (0..topic.partitions).filter(|_| !dice.one_in(3)).collect();
        match move_leaders(&topic.name, &partitions, leader).await {
            Ok(()) => self
                .journal
                .fault("leaders moved", &format!("{} {partitions:?} {leader}", topic.name)),
            // Its broker may be away.
            Err(error) => self.journal.say(&format!("no move of leaders: {error}")),
        }
    }

    async fn kill_postgres(&self, dice: &mut Dice) {
        let away = dice.millis(0, 5000);
        if dice.one_in(2) {
            self.journal.fault("kill -9 of PostgreSQL", "");
            self.must("kill", cluster(&["kill", "postgres"]).await);
        } else {
            self.journal.fault("immediate stop of PostgreSQL", "");
            self.must("stop", cluster(&["stop", "postgres"]).await);
        }
        self.pause(away).await;
        self.must("start", cluster(&["start", "postgres"]).await);
    }

    fn must(&self, what: &str, done: Result<(), String>) {
        if let Err(error) = done {
            panic!("the cluster can't {what}: {error}");
        }
    }

    /// As retention would, up to somewhere that the oracle has read.
    async fn delete_records(&self, dice: &mut Dice) {
        let topic = dice.pick(&self.topics);
        let partition = dice.roll(topic.partitions as u64) as i32;
        let known = self.oracle.read_up_to(&topic.name, partition);
        let below = known * dice.between(40, 100) as i64 / 100;
        match topic.delete_below(partition, below).await {
            Ok(()) => self
                .journal
                .fault("records deleted", &format!("{} {partition} below {below}", topic.name)),
            Err(error) => self.journal.say(&format!("nothing deleted: {error}")),
        }
    }
}

/// Recognised by the statement that comes before it in the same transaction.
pub const COMMIT_OF_A_FILE: Trap =
    Trap { after: b"-- insert_file", at: b"COMMIT\0", outcome: Outcome::Landed };

fn mode(dice: &mut Dice) -> Mode {
    let (delay, rate, bytes) =
        (dice.millis(20, 1500), dice.between(2_000, 200_000), dice.roll(100_000));
    let modes = [
        Mode::Refuse,
        Mode::Reset,
        Mode::Delay(delay),
        Mode::Slow(rate),
        Mode::Blackhole,
        Mode::CutAfter(bytes),
        Mode::HalfOpen,
    ];
    *dice.pick(&modes)
}

fn name(mode: Mode) -> &'static str {
    match mode {
        Mode::Pass => "pass",
        Mode::Refuse => "refused",
        Mode::Reset => "reset",
        Mode::Delay(_) => "delayed",
        Mode::Slow(_) => "slow",
        Mode::Blackhole => "black hole",
        Mode::CutAfter(_) => "cut after some bytes",
        Mode::HalfOpen => "half-open",
    }
}
