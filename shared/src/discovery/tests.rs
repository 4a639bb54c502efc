//! How a source is followed, with a source whose answers the test hands out.

use std::{fs, sync::Mutex};

use super::{file::Lines, fixed::Fixed, *};
use crate::metrics::Source as _;

/// The answer to one look-up; dropped without an answer, the look-up hangs.
type Reply = oneshot::Sender<Result<Answer, Error>>;

/// A source that passes each look-up on to the test.
struct Scripted {
    asked: mpsc::Sender<Reply>,
    waits: Duration,
}

impl Lookup for Scripted {
    async fn look_up(&mut self) -> Result<Answer, Error> {
        let (reply, answer) = oneshot::channel();
        self.asked.send(reply).await.unwrap();
        match answer.await {
            Ok(answer) => answer,
            Err(_) => pending().await,
        }
    }

    fn forget(&mut self) {
        self.waits = Duration::ZERO;
    }

    fn waits(&self) -> Duration {
        self.waits
    }
}

const DEADLINE: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);

fn plan(schedule: Schedule) -> Plan {
    Plan {
        schedule,
        deadline: DEADLINE,
        empty: Empty::Fails,
    }
}

/// What a test holds of a source that is followed.
struct Followed {
    tasks: Tasks,
    metrics: Metrics,
    discovery: Discovery,
    asked: mpsc::Receiver<Reply>,
    seen: Arc<Mutex<Vec<String>>>,
}

fn follow(plan: Plan, waits: Duration) -> Followed {
    let (tasks, metrics) = (Tasks::new(), Metrics::new("test"));
    let (ask, asked) = mpsc::channel(1);
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let source = Scripted { asked: ask, waits };
    let discovery = Discovery::start(&tasks, &metrics, "scripted", plan, source, {
        let seen = Arc::clone(&seen);
        move |refresh| {
            let text = match refresh.result {
                Ok(snapshot) => snapshot.addresses().collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            seen.lock().unwrap().push(text);
        }
    });
    Followed {
        tasks,
        metrics,
        discovery,
        asked,
        seen,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a look-up gives")]
fn answer(addresses: &[&str]) -> Result<Answer, Error> {
    Ok(Answer {
        members: addresses.iter().copied().map(Member::new).collect(),
        version: None,
        skipped: Vec::new(),
    })
}

fn addresses(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.addresses().collect()
}

fn metric(metrics: &Metrics, name: &str) -> Option<f64> {
    let families = metrics.families();
    let family = families
        .iter()
        .find(|family| family.name() == format!("test_discovery_{name}"))?;
    let sample = family.get_metric().first()?;
    Some(sample.get_counter().get_value() + sample.get_gauge().get_value())
}

#[tokio::test(start_paused = true)]
async fn members_are_sorted_and_distinct_and_only_changes_notify() {
    let mut followed = follow(plan(Schedule::Every(MINUTE)), Duration::ZERO);
    let mut watch = followed.discovery.watch();
    assert_eq!(followed.discovery.snapshot().answered(), None);
    let reply = followed.asked.recv().await.unwrap();
    reply.send(answer(&["b:1", "a:1", "b:1"])).unwrap();
    watch.changed().await.unwrap();
    let first = watch.borrow_and_update().clone();
    assert_eq!(addresses(&first), ["a:1", "b:1"]);
    assert_eq!(first.members().len(), 2);
    assert!(first.answered().is_some());
    // The same in another order is no news.
    let reply = followed.asked.recv().await.unwrap();
    reply.send(answer(&["a:1", "b:1"])).unwrap();
    let reply = followed.asked.recv().await.unwrap();
    assert!(!watch.has_changed().unwrap());
    reply.send(answer(&["a:1"])).unwrap();
    watch.changed().await.unwrap();
    assert_eq!(addresses(&watch.borrow_and_update()), ["a:1"]);
}

#[tokio::test(start_paused = true)]
async fn failures_empty_answers_and_silence_keep_the_last_members_and_are_counted() {
    let mut followed = follow(plan(Schedule::Every(MINUTE)), Duration::ZERO);
    let reply = followed.asked.recv().await.unwrap();
    assert_eq!(
        metric(&followed.metrics, "last_success_timestamp_seconds"),
        Some(0.0)
    );
    reply.send(answer(&["a:1", "b:1"])).unwrap();
    let failures = [
        Some(answer(&[])),
        Some(Err(Error::Transport("refused".to_owned()))),
        None,
    ];
    for failure in failures {
        let reply = followed.asked.recv().await.unwrap();
        if let Some(failure) = failure {
            reply.send(failure).unwrap();
        }
    }
    let reply = followed.asked.recv().await.unwrap();
    assert_eq!(addresses(&followed.discovery.snapshot()), ["a:1", "b:1"]);
    assert_eq!(
        *followed.seen.lock().unwrap(),
        [
            "a:1 b:1",
            "no members found",
            "refused",
            "no answer within 5s"
        ]
    );
    let outcome = followed.discovery.first().await.unwrap();
    assert!(matches!(*outcome.unwrap_err(), Error::Deadline(DEADLINE)));
    assert_eq!(metric(&followed.metrics, "refreshes_total"), Some(4.0));
    assert_eq!(metric(&followed.metrics, "failures_total"), Some(3.0));
    assert_eq!(metric(&followed.metrics, "members"), Some(2.0));
    assert!(metric(&followed.metrics, "last_success_timestamp_seconds").unwrap() > 1.0);
    reply.send(answer(&["c:1"])).unwrap();
    let _next = followed.asked.recv().await.unwrap();
    assert_eq!(addresses(&followed.discovery.snapshot()), ["c:1"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_counts_where_the_plan_says_so() {
    let empty = Empty::Counts;
    let plan = Plan {
        empty,
        ..plan(Schedule::OnRequest)
    };
    let mut followed = follow(plan, Duration::ZERO);
    let mut watch = followed.discovery.watch();
    followed
        .asked
        .recv()
        .await
        .unwrap()
        .send(answer(&[]))
        .unwrap();
    watch.changed().await.unwrap();
    assert!(watch.borrow().answered().is_some());
    assert!(followed.discovery.first().await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn polls_are_one_interval_apart_and_a_slow_answer_leaves_ticks_out() {
    let mut followed = follow(
        plan(Schedule::Every(Duration::from_secs(2))),
        Duration::ZERO,
    );
    let start = Instant::now();
    let mut asked_at = Vec::new();
    for turn in 0..5 {
        let reply = followed.asked.recv().await.unwrap();
        asked_at.push(start.elapsed().as_secs());
        if turn != 2 {
            reply.send(answer(&["a:1"])).unwrap();
        }
    }
    // The third look-up hangs until its deadline of 5 s.
    assert_eq!(asked_at, [0, 2, 4, 11, 13]);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_refresh_gets_the_outcome_of_a_look_up_that_started_after_it() {
    let mut followed = follow(plan(Schedule::OnRequest), Duration::ZERO);
    followed
        .asked
        .recv()
        .await
        .unwrap()
        .send(answer(&["a:1"]))
        .unwrap();
    assert!(followed.discovery.first().await.unwrap().is_ok());
    let (outcome, ()) = tokio::join!(followed.discovery.refresh(), async {
        let reply = followed.asked.recv().await.unwrap();
        reply.send(Err(Error::Decode("x".to_owned()))).unwrap();
    });
    assert!(matches!(*outcome.unwrap().unwrap_err(), Error::Decode(_)));
    assert_eq!(addresses(&followed.discovery.snapshot()), ["a:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_request_to_refresh_cuts_a_long_poll_short() {
    let retry = Duration::from_secs(1);
    let mut followed = follow(plan(Schedule::LongPoll { retry }), MINUTE);
    let waiting = followed.asked.recv().await.unwrap();
    let (outcome, ()) = tokio::join!(followed.discovery.refresh(), async {
        let reply = followed.asked.recv().await.unwrap();
        assert!(waiting.is_closed());
        reply.send(answer(&["a:1"])).unwrap();
    });
    assert!(outcome.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn long_polls_follow_each_other_at_once_but_never_in_a_storm() {
    let retry = Duration::from_secs(7);
    let mut followed = follow(plan(Schedule::LongPoll { retry }), MINUTE);
    let start = Instant::now();
    let mut asked_at = Vec::new();
    for answer in [answer(&["a:1"]), answer(&[]), answer(&["a:1"])] {
        followed.asked.recv().await.unwrap().send(answer).unwrap();
        asked_at.push(start.elapsed());
    }
    assert_eq!(asked_at[1], LONG_POLL_SPACING);
    assert_eq!(asked_at[2], LONG_POLL_SPACING + retry);
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_a_look_up_and_takes_the_counters_away() {
    let mut followed = follow(plan(Schedule::OnRequest), Duration::ZERO);
    let _unanswered = followed.asked.recv().await.unwrap();
    followed.tasks.stop();
    let drained = followed.tasks.drain(MINUTE).await;
    assert_eq!(drained, crate::lifecycle::Drained::Completely);
    assert!(matches!(followed.discovery.first().await, Err(Ended)));
    assert!(matches!(followed.discovery.refresh().await, Err(Ended)));
    assert_eq!(metric(&followed.metrics, "refreshes_total"), None);
}

#[tokio::test]
async fn a_fixed_list_is_known_after_its_first_look_up() {
    let (tasks, metrics) = (Tasks::new(), Metrics::new("test"));
    let source = Fixed::new(vec![Member::new("b:1"), Member::new("a:1")]);
    let discovery = Discovery::start(&tasks, &metrics, "fixed", Fixed::PLAN, source, |_| {});
    assert!(discovery.first().await.unwrap().is_ok());
    assert_eq!(addresses(&discovery.snapshot()), ["a:1", "b:1"]);
    assert_eq!(metric(&metrics, "members"), Some(2.0));
}

#[tokio::test]
async fn a_file_is_read_again_on_request_and_on_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("members");
    let start = |schedule| {
        let (tasks, metrics) = (Tasks::new(), Metrics::new("test"));
        let source = Lines::new(&path);
        let discovery = Discovery::start(&tasks, &metrics, "file", plan(schedule), source, |_| {});
        (tasks, metrics, discovery)
    };
    let (_tasks, metrics, asked) = start(Schedule::OnRequest);
    let outcome = asked.first().await.unwrap();
    assert!(matches!(*outcome.unwrap_err(), Error::File { .. }));
    fs::write(&path, "a:1\nb c\n").unwrap();
    assert!(asked.refresh().await.unwrap().is_ok());
    assert_eq!(addresses(&asked.snapshot()), ["a:1"]);
    assert_eq!(metric(&metrics, "skipped"), Some(1.0));
    let (_tasks, _metrics, polled) = start(Schedule::Every(Duration::from_millis(5)));
    let mut watch = polled.watch();
    fs::write(folder.path().join("next"), "a:1\nd:1\n").unwrap();
    fs::rename(folder.path().join("next"), &path).unwrap();
    let seen = watch.wait_for(|snapshot| addresses(snapshot) == ["a:1", "d:1"]);
    assert!(
        timeout(crate::testing::PATIENCE, seen)
            .await
            .unwrap()
            .is_ok()
    );
    fs::remove_file(&path).unwrap();
    assert!(asked.refresh().await.unwrap().is_err());
    assert_eq!(addresses(&asked.snapshot()), ["a:1"]);
}
