//! Attempt tokens: what a runner names an attempt by.

use crate::model::Triple;
use crate::model::task::Fence;

/// Names one attempt of one job; a runner gives it back as it got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The job.
    pub job: Triple,
    /// The number of the attempt.
    pub attempt: u32,
    /// What tells it from another attempt of the same number.
    pub nonce: u32,
}

impl Token {
    /// The token of a lease.
    pub const fn new(job: Triple, fence: Fence) -> Self {
        Self { job, attempt: fence.attempt, nonce: fence.nonce }
    }

    /// What a report by `runner` with this token is about.
    pub const fn fence(self, runner: u32) -> Fence {
        Fence { attempt: self.attempt, runner, nonce: self.nonce }
    }

    /// Reads one; `None` when it is none of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut next = |radix| {
            let part = parts.next().filter(|p| !p.starts_with('+'))?;
            u32::from_str_radix(part, radix).ok()
        };
        let job = (next(10)?, next(10)?, next(10)?);
        let token = Self { job, attempt: next(10)?, nonce: next(16)? };
        parts.next().is_none().then_some(token)
    }
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (context, caller, id) = self.job;
        write!(f, "{context}-{caller}-{id}-{}-{:08x}", self.attempt, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_comes_back_as_it_was(job: (u32, u32, u32), attempt: u32, nonce: u32) {
            let token = Token { job, attempt, nonce };
            prop_assert_eq!(Token::parse(&token.to_string()), Some(token));
        }

        #[test]
        fn anything_else_is_none(text in "[-+0-9a-f]{0,30}") {
            if let Some(token) = Token::parse(&text) {
                prop_assert_eq!(Token::parse(&token.to_string()), Some(token));
            }
        }
    }
}
