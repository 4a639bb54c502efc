//! Asking many at once, or only as many as are needed, and when their answers are enough.

use std::{collections::BTreeMap, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use promql::storage::BoxFuture;
use tokio::time::sleep;

use super::metrics::Hedge;
use crate::upstream::{FailureKind, UpstreamError};

/// A member's answer on its way.
pub(crate) struct Pending<'a, T> {
    /// What the member stands for: of each such number, one answer is needed.
    pub(crate) key: usize,
    pub(crate) answer: BoxFuture<'a, Result<T, UpstreamError>>,
}

/// Waits for the answers of members, of which those with the same key hold the same series.
///
/// Returns the answers that came, in the order of members, once there is at least one for each key. As soon as all members of a
/// key have failed, that is the answer, and the others are not waited for; so it is when the budget is spent. The error is that of
/// the key's last member.
pub(crate) async fn replicas<T>(members: Vec<Pending<'_, T>>) -> Result<Vec<T>, UpstreamError> {
    let keys: Vec<usize> = members.iter().map(|member| member.key).collect();
    let mut answers: Vec<Option<Result<T, UpstreamError>>> = Vec::new();
    answers.resize_with(keys.len(), || None);
    let numbered = members.into_iter().enumerate();
    let mut waiting: FuturesUnordered<_> = numbered
        .map(|(place, member)| async move { (place, member.answer.await) })
        .collect();
    while let Some((place, answer)) = waiting.next().await {
        if let Err(error) = &answer
            && error.kind == FailureKind::TooMuch
        {
            return Err(error.clone());
        }
        let has_failed = answer.is_err();
        answers[place] = Some(answer);
        if !has_failed {
            continue;
        }
        let same = || {
            let all = keys.iter().zip(&answers);
            all.filter(|(key, _)| **key == keys[place])
        };
        let has_hope = same().any(|(_, answer)| answer.as_ref().is_none_or(Result::is_ok));
        if let (false, Some((_, Some(Err(error))))) = (has_hope, same().last()) {
            return Err(error.clone());
        }
    }
    Ok(answers
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .collect())
}

/// Asks, of the members with one key, the first; another when those that were asked have not answered for so long, and at once when
/// one fails. The first answer is the answer of the key, whatever the others would have added to it; they are asked no more.
///
/// Returns the answers in the order of keys. The error is that of the member of a key that failed last. `count` is
/// told of each member that would not have been asked.
pub(crate) async fn hedged<'a, T>(
    members: Vec<Pending<'a, T>>,
    after: Duration,
    count: &(impl Fn(Hedge) + Sync),
) -> Result<Vec<T>, UpstreamError> {
    let mut keys: BTreeMap<usize, Vec<BoxFuture<'a, Result<T, UpstreamError>>>> = BTreeMap::new();
    for Pending { key, answer } in members {
        keys.entry(key).or_default().push(answer);
    }
    let mut answers: Vec<Option<T>> = Vec::new();
    answers.resize_with(keys.len(), || None);
    let mut waiting: FuturesUnordered<_> = keys
        .into_values()
        .enumerate()
        .map(|(place, members)| async move { (place, first(members, after, count).await) })
        .collect();
    while let Some((place, answer)) = waiting.next().await {
        answers[place] = Some(answer?);
    }
    Ok(answers.into_iter().flatten().collect())
}

/// Returns the first answer of members of which one is enough.
async fn first<T>(
    members: Vec<BoxFuture<'_, Result<T, UpstreamError>>>,
    after: Duration,
    count: &(impl Fn(Hedge) + Sync),
) -> Result<T, UpstreamError> {
    let mut waiting = FuturesUnordered::new();
    let mut rest = members.into_iter();
    waiting.extend(rest.next());
    loop {
        let why = tokio::select! {
            // An answer that is there comes before one that would have to be asked for.
            biased;
            Some(answer) = waiting.next() => match answer {
                Err(error) if error.kind == FailureKind::TooMuch => return Err(error),
                Err(error) if rest.len() == 0 && waiting.is_empty() => return Err(error),
                Err(_) => Hedge::Failed,
                answer => return answer,
            },
            () = sleep(after), if rest.len() > 0 => Hedge::Slow,
        };
        if let Some(next) = rest.next() {
            count(why);
            waiting.push(next);
        }
    }
}

/// Waits for the answers of groups, all of which are needed. The first error ends the wait.
pub(crate) async fn groups<T>(
    groups: Vec<BoxFuture<'_, Result<T, UpstreamError>>>,
) -> Result<Vec<T>, UpstreamError> {
    let mut answers: Vec<Option<T>> = Vec::new();
    answers.resize_with(groups.len(), || None);
    let numbered = groups.into_iter().enumerate();
    let mut waiting: FuturesUnordered<_> = numbered
        .map(|(place, answer)| async move { (place, answer.await) })
        .collect();
    while let Some((place, answer)) = waiting.next().await {
        answers[place] = Some(answer?);
    }
    Ok(answers.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;

    fn failed(text: &str) -> UpstreamError {
        UpstreamError {
            kind: FailureKind::Execution,
            message: text.to_owned(),
        }
    }

    fn member(key: usize, answer: Result<u32, UpstreamError>) -> Pending<'static, u32> {
        let answer = Box::pin(future::ready(answer));
        Pending { key, answer }
    }

    #[tokio::test]
    async fn one_answer_is_needed_of_each_key() {
        let found = replicas(vec![
            member(0, Err(failed("a"))),
            member(1, Ok(1)),
            member(0, Ok(2)),
        ]);
        assert_eq!(found.await, Ok(vec![1, 2]));
        let found = replicas(vec![
            member(0, Err(failed("a"))),
            member(1, Ok(1)),
            member(0, Err(failed("b"))),
        ]);
        assert_eq!(found.await, Err(failed("b")));
        assert_eq!(replicas::<u32>(Vec::new()).await, Ok(Vec::new()));
    }

    /// Answers after so many seconds.
    fn late(key: usize, seconds: u64, answer: Result<u32, UpstreamError>) -> Pending<'static, u32> {
        let answer = async move {
            sleep(Duration::from_secs(seconds)).await;
            answer
        };
        Pending {
            key,
            answer: Box::pin(answer),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_replica_is_asked_when_one_is_slow_or_fails() {
        let f =
            async |members, expected: Result<Vec<u32>, &str>, seconds: u64, hedges: &[Hedge]| {
                let counted = std::sync::Mutex::new(Vec::new());
                let count = |why| counted.lock().unwrap().push(why);
                let begin = tokio::time::Instant::now();
                let found = hedged(members, Duration::from_secs(3), &count).await;
                assert_eq!(found, expected.map_err(failed));
                assert_eq!(begin.elapsed().as_secs(), seconds);
                assert_eq!(*counted.lock().unwrap(), hedges);
            };
        // One that answers in time is enough; each key has its own.
        f(
            vec![late(0, 2, Ok(1)), late(0, 0, Ok(2)), late(2, 1, Ok(3))],
            Ok(vec![1, 3]),
            2,
            &[],
        )
        .await;
        // The second is asked after three seconds, the third after three more; the first to answer wins.
        f(
            vec![late(0, 7, Ok(1)), late(0, 9, Ok(2)), late(0, 9, Ok(3))],
            Ok(vec![1]),
            7,
            &[Hedge::Slow, Hedge::Slow],
        )
        .await;
        f(
            vec![late(0, 99, Ok(1)), late(0, 2, Ok(2))],
            Ok(vec![2]),
            5,
            &[Hedge::Slow],
        )
        .await;
        // One that fails makes room for the next at once.
        f(
            vec![late(0, 1, Err(failed("a"))), late(0, 1, Ok(2))],
            Ok(vec![2]),
            2,
            &[Hedge::Failed],
        )
        .await;
        // All have failed, in whatever order.
        f(
            vec![late(0, 8, Err(failed("a"))), late(0, 1, Err(failed("b")))],
            Err("a"),
            8,
            &[Hedge::Slow],
        )
        .await;
        // A key without an answer is the answer; the other key is not waited for.
        f(
            vec![late(0, 99, Ok(1)), late(1, 1, Err(failed("b")))],
            Err("b"),
            1,
            &[],
        )
        .await;
        f(Vec::new(), Ok(Vec::new()), 0, &[]).await;
    }

    #[tokio::test]
    async fn a_spent_budget_asks_no_other_replica() {
        let over = UpstreamError {
            kind: FailureKind::TooMuch,
            message: "over".to_owned(),
        };
        let members = vec![member(0, Err(over.clone())), member(0, Ok(1))];
        let found = hedged(members, Duration::from_secs(1), &|_| unreachable!()).await;
        assert_eq!(found, Err(over));
    }

    #[tokio::test]
    async fn a_decided_failure_waits_for_nobody() {
        let slow = Pending {
            key: 0,
            answer: Box::pin(future::pending()),
        };
        let found = replicas(vec![slow, member(1, Err(failed("a")))]);
        assert_eq!(found.await, Err(failed("a")));
        let over = UpstreamError {
            kind: FailureKind::TooMuch,
            message: "over".to_owned(),
        };
        let found = replicas(vec![
            Pending {
                key: 0,
                answer: Box::pin(future::pending()),
            },
            member(0, Err(over.clone())),
        ]);
        assert_eq!(found.await, Err(over));
        let answers: Vec<BoxFuture<'_, Result<u32, UpstreamError>>> = vec![
            Box::pin(future::pending()),
            Box::pin(future::ready(Err(failed("b")))),
        ];
        assert_eq!(groups(answers).await, Err(failed("b")));
    }
}
