//! Where an expression writes its text: at most so much.

use std::io;

use super::compiled::RECIPIENTS;

const MOST: usize = 64 << 10;
/// As many recipients as one event may have.
const MOST_OF_RECIPIENTS: usize = 8 << 20;

pub(super) struct Output {
    text: Vec<u8>,
    most: usize,
    overflown: bool,
}

impl Output {
    /// For the expression of this name.
    pub fn of(name: &str) -> Self {
        let most = if name == RECIPIENTS { MOST_OF_RECIPIENTS } else { MOST };
        Self { text: Vec::new(), most, overflown: false }
    }

    pub fn into_text(self) -> Result<String, String> {
        String::from_utf8(self.text).map_err(|error| error.to_string())
    }

    /// Why nothing more was taken, if so.
    pub fn overflow(&self) -> Option<String> {
        self.overflown.then(|| format!("makes more than {} KiB of text", self.most >> 10))
    }
}

impl io::Write for &mut Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.text.len() + bytes.len() > self.most {
            self.overflown = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
