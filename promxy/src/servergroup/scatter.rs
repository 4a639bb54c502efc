//! Asking many at once, and when their answers are enough.

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use promql::storage::BoxFuture;

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
