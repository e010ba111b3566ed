//! Random texts in the alphabets WeChat uses.

const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// `length` characters of `A-Za-z0-9_-`, as tokens, codes and template ids are made of.
pub(crate) fn text(length: usize) -> String {
    (0..length).map(|_| char::from(LETTERS[usize::from(rand::random::<u8>() & 63)])).collect()
}

/// `length` decimal digits, as the nonce of a push.
pub(crate) fn digits(length: usize) -> String {
    (0..length).map(|_| char::from(b'0' + rand::random::<u8>() % 10)).collect()
}

/// `length` lower-case hexadecimal digits.
pub(crate) fn hex(length: usize) -> String {
    (0..length).map(|_| char::from(b"0123456789abcdef"[usize::from(rand::random::<u8>() & 15)])).collect()
}
