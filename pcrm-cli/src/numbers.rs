//! Parsers for numeric options, with errors that state the expected range.

use std::str::FromStr;

/// Parses a whole number from 0 up.
///
/// # Errors
/// Fails if the text is not such a number.
pub fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "expected a whole number from 0 up".to_owned())
}

/// Parses a positive whole number.
///
/// # Errors
/// Fails if the text is not such a number.
pub fn positive<T: FromStr + PartialEq + From<u8>>(text: &str) -> Result<T, String> {
    match text.parse::<T>() {
        Ok(number) if number != T::from(0) => Ok(number),
        _ => Err("expected a positive whole number".to_owned()),
    }
}

/// Parses a number, including special values; options with a range refuse those later.
///
/// # Errors
/// Fails if the text is not a number.
pub fn real(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| "expected a number such as 0.1 or 1e-4".to_owned())
}

/// Parses a share: a number strictly between 0 and 1.
///
/// # Errors
/// Fails if the text is not such a number.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("expected a share between 0 and 1, such as 0.1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects: each parser accepts exactly its own kind of number.
    #[test]
    fn numbers_are_distinguished() {
        assert_eq!((whole::<u64>("0"), positive::<usize>("3")), (Ok(0), Ok(3)));
        assert!(whole::<u64>("-1").is_err() && whole::<u64>("1.5").is_err());
        assert!(positive::<u64>("0").is_err() && positive::<usize>("many").is_err());
        assert_eq!((share("0.1"), real("-1e-4")), (Ok(0.1), Ok(-1e-4)));
        assert!(["0", "1", "1.5", "-0.1", "NaN", ""].iter().all(|text| share(text).is_err()));
    }
}
