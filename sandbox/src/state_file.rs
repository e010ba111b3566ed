//! What WeChat remembers, on disk: so that a restart of the developer's server is not a new world.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{platform::Platform, world::World};

const AT_MOST_EVERY: Duration = Duration::from_millis(200);

/// Reads the world; an absent file is an empty one.
pub(crate) fn load(path: &Path) -> io::Result<World> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(World::default()),
        Err(error) => Err(error),
    }
}

pub(crate) struct StateFile {
    path: PathBuf,
    platform: Arc<Platform>,
    /// One writer at a time: the periodic one and the last one share the temporary file.
    writing: Mutex<()>,
}

impl StateFile {
    pub(crate) fn new(path: PathBuf, platform: Arc<Platform>) -> Arc<Self> {
        Arc::new(Self { path, platform, writing: Mutex::new(()) })
    }

    pub(crate) fn save_if_changed(&self) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.platform.take_changed() {
            return Ok(());
        }
        let saved = self.write();
        if saved.is_err() {
            self.platform.mark_changed();
        }
        saved
    }

    fn write(&self) -> io::Result<()> {
        let bytes = {
            let mut world = self.platform.look();
            world.clock_offset_ms = self.platform.clock.offset_ms();
            serde_json::to_vec(&*world).map_err(io::Error::other)?
        };
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, &self.path)
    }

    /// Writes whenever something changed, until the simulator closes.
    pub(crate) async fn keep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(AT_MOST_EVERY) => {}
                () = self.platform.closing.cancelled() => return,
            }
            let file = self.clone();
            match tokio::task::spawn_blocking(move || file.save_if_changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "state file not written"),
                Err(error) => tracing::warn!(%error, "state file writer failed"),
            }
        }
    }
}
