//! The whole state machine at a glance, and what every history keeps.

use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy { retries: 2, base: 10, cap: 1_000, losses: 3 };

fn fence(attempt: u32) -> Fence {
    Fence { attempt, runner: 1, nonce: 9 }
}

fn lease(attempt: u32, started_at: Millis) -> Lease {
    Lease { fence: fence(attempt), leased_at: 1, acknowledged: started_at > 0, started_at }
}

fn inputs() -> impl Strategy<Value = Vec<(Input, Millis)>> {
    let text = String::new;
    let one = prop_oneof![
        Just(Input::DependencyFinished),
        Just(Input::GateOpened),
        Just(Input::Lease { runner: 1, nonce: 9 }),
        (0u32..9).prop_map(|n| Input::Acknowledge(fence(n))),
        (0u32..9).prop_map(|n| Input::Start(fence(n))),
        (0u32..9).prop_map(|n| Input::Finish(fence(n))),
        (0u32..9).prop_map(move |n| Input::Fail { fence: fence(n), error: text() }),
        Just(Input::TimeOut { error: text() }),
        Just(Input::Lose { error: text() }),
        Just(Input::GiveUp { reason: text() }),
    ];
    prop::collection::vec((one, 0u64..40), 0..120)
}

proptest! {
    #[test]
    fn any_history_keeps_the_invariants(history in inputs()) {
        let (mut task, mut now, mut settled, mut ended) = (Task::new(1, 1, 0), 1, 0, 0);
        for (input, dt) in history {
            now += dt;
            let Ok((next, effects)) = task.step(input, &POLICY, now, 7) else { continue };
            prop_assert!(!task.state.is_terminal(), "terminal states absorb");
            prop_assert!(next.attempts >= task.attempts, "attempts never fall");
            prop_assert!(next.failures <= u32::from(POLICY.retries));
            prop_assert!(next.losses <= POLICY.losses);
            settled += usize::from(effects.settled.is_some());
            ended += u32::from(effects.ended.is_some());
            prop_assert_eq!(settled, usize::from(next.state.is_terminal()));
            prop_assert_eq!(next.attempts - ended, u32::from(next.state.lease().is_some()),
                "every attempt ends exactly once");
            if let Some(revoked) = effects.revoked {
                prop_assert_eq!(task.state.lease(), Some(&revoked));
            }
            task = next;
        }
    }

    #[test]
    fn a_delay_stays_within_its_bounds(failures in 0u32..500, random: u32) {
        let delay = Policy::core(255).delay(failures, random);
        prop_assert!((500..=30_000).contains(&delay));
    }
}

/// The whole machine at a glance; `-` is a refusal.
#[test]
fn the_table() {
    let states = [
        State::Waiting { dependencies: 1, gates: 0 },
        State::Waiting { dependencies: 0, gates: 1 },
        State::Ready { not_before: 0 },
        State::Leased(lease(1, 0)),
        State::Running(lease(1, 2)),
        State::Finished,
        State::Failed { error: "x".into() },
        State::GivenUp { reason: "x".into() },
    ];
    let inputs = [
        ("depend", Input::DependencyFinished),
        ("gate", Input::GateOpened),
        ("lease", Input::Lease { runner: 1, nonce: 9 }),
        ("ack", Input::Acknowledge(fence(1))),
        ("start", Input::Start(fence(1))),
        ("finish", Input::Finish(fence(1))),
        ("fail", Input::Fail { fence: fence(1), error: "x".into() }),
        ("timeout", Input::TimeOut { error: "x".into() }),
        ("lose", Input::Lose { error: "x".into() }),
        ("giveup", Input::GiveUp { reason: "x".into() }),
    ];
    let row = |first: &str, rest: &mut dyn Iterator<Item = &'static str>| {
        rest.fold(format!("{first:<9}"), |row, cell| format!("{row}{cell:<9}"))
    };
    let mut table = vec![row("", &mut inputs.iter().map(|(name, _)| *name))];
    for state in &states {
        let task = Task { state: state.clone(), attempts: 1, failures: 0, losses: 0 };
        let mut cells = inputs.iter().map(|(_, input)| {
            task.step(input.clone(), &POLICY, 9, 0).map_or("-", |(next, _)| next.state.name())
        });
        table.push(row(state.name(), &mut cells));
    }
    let table: Vec<&str> = table.iter().map(|line| line.trim_end()).collect();
    assert_eq!(
        table,
        [
            "         depend   gate     lease    ack      start    finish   fail     timeout  lose     giveup",
            "waiting  ready    -        -        -        -        -        -        -        -        given up",
            "waiting  -        ready    -        -        -        -        -        -        -        given up",
            "ready    -        -        leased   -        -        -        -        -        -        given up",
            "leased   -        -        -        leased   running  finished ready    ready    ready    given up",
            "running  -        -        -        running  running  finished ready    ready    ready    given up",
            "finished -        -        -        -        -        -        -        -        -        -",
            "failed   -        -        -        -        -        -        -        -        -        -",
            "given up -        -        -        -        -        -        -        -        -        -",
        ]
    );
}

#[test]
fn a_report_about_another_attempt_is_stale() {
    let task = Task { state: State::Leased(lease(2, 0)), attempts: 2, failures: 1, losses: 0 };
    let other_runner = Fence { runner: 2, ..fence(2) };
    let other_life = Fence { nonce: 8, ..fence(2) };
    for fence in [fence(1), other_runner, other_life] {
        let refused = task.step(Input::Finish(fence), &POLICY, 0, 0).unwrap_err();
        assert_eq!(refused, Refusal::Stale);
    }
}

#[test]
fn losses_use_up_no_retry_until_there_are_too_many() {
    let policy = Policy::core(0);
    let mut task = Task::new(0, 0, 0);
    for _ in 0..policy.losses {
        task = task.step(Input::Lease { runner: 1, nonce: 9 }, &policy, 1, 0).unwrap().0;
        task = task.step(Input::Lose { error: "gone".into() }, &policy, 1, 0).unwrap().0;
        assert_eq!(task.state, State::Ready { not_before: 0 });
    }
    task = task.step(Input::Lease { runner: 1, nonce: 9 }, &policy, 1, 0).unwrap().0;
    task = task.step(Input::Lose { error: "gone".into() }, &policy, 1, 0).unwrap().0;
    assert_eq!(task.state, State::Failed { error: "gone".into() });
    assert_eq!(task.attempts, 11);
}
