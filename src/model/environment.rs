//! Which environment variables a process can hold.

/// A variable that no process can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The name is empty.
    #[error("a name must not be empty")]
    EmptyName,
    /// The name has an equals sign or NUL in it.
    #[error("the name {0:?} must hold neither '=' nor NUL")]
    Name(String),
    /// The value has NUL in it.
    #[error("the value of {0:?} must not hold NUL")]
    Value(String),
}

/// Whether a process could be given these variables.
///
/// # Errors
/// The first that it could not.
pub fn check<'a>(
    variables: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), EnvironmentError> {
    for (name, value) in variables {
        if name.is_empty() {
            return Err(EnvironmentError::EmptyName);
        }
        if name.contains(['=', '\0']) {
            return Err(EnvironmentError::Name(name.to_owned()));
        }
        if value.contains('\0') {
            return Err(EnvironmentError::Value(name.to_owned()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_process_can_hold_is_refused() {
        assert_eq!(check([("A", "x=y"), ("b c", ""), ("ü", "\n")]), Ok(()));
        assert_eq!(check([("", "x")]), Err(EnvironmentError::EmptyName));
        assert_eq!(check([("A=", "x")]), Err(EnvironmentError::Name("A=".into())));
        assert_eq!(check([("A\0", "x")]), Err(EnvironmentError::Name("A\0".into())));
        assert_eq!(check([("A", ""), ("B", "\0")]), Err(EnvironmentError::Value("B".into())));
    }
}
