//! Delivering a push: five seconds a try, three tries.

use std::{sync::Arc, time::Instant};

use super::{
    cipher::sign,
    event::Event,
    letter::{self, Letter},
    posted::Try,
};
use crate::{config::App, platform::Platform, random};

const TRIES: usize = 3;
const USUAL_PAUSE_MS: u64 = 1_000;

/// Posts an event to the app's callback URL. Gives its number in the log and whether it was taken;
/// `None` when the app has no callback.
pub(crate) async fn post(platform: &Arc<Platform>, app_id: &str, mut event: Event) -> Option<(u64, bool)> {
    let now = platform.clock.now();
    event.created.get_or_insert(now);
    let (n, letter, pause) = {
        let mut world = platform.look();
        let account = world.accounts.get_mut(app_id)?;
        let letter = letter::write(&account.app, &event, account.knobs.numbers_in_callbacks, now)?;
        let pause = account.knobs.callback_retry_ms.unwrap_or(USUAL_PAUSE_MS);
        let n = account.posted.open(&event.name, &event.from, letter.clone());
        (n, letter, pause)
    };
    for attempt in 1..=TRIES {
        if try_once(platform, app_id, n, &letter).await {
            return Some((n, true));
        }
        if attempt < TRIES {
            platform.clock.sleep(pause).await;
        }
    }
    Some((n, false))
}

/// Posts an old letter again, byte for byte, once. `None` when there is no such letter.
pub(crate) async fn resend(platform: &Arc<Platform>, app_id: &str, n: u64) -> Option<bool> {
    let letter = platform.look().accounts.get(app_id)?.posted.letter(n)?;
    Some(try_once(platform, app_id, n, &letter).await)
}

#[expect(
    clippy::disallowed_methods,
    reason = "measures how long the app really took, whatever the simulator's clock shows"
)]
async fn try_once(platform: &Platform, app_id: &str, n: u64, letter: &Letter) -> bool {
    let time_ms = platform.clock.now_ms();
    let started = Instant::now();
    let outcome = send(platform, letter).await;
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, answer, error) = match outcome {
        Ok((status, answer)) => (Some(status), Some(answer), None),
        Err(error) => (None, None, Some(error.to_string())),
    };
    // WeChat is content with 200 and `success` or nothing at all.
    let accepted =
        status == Some(200) && answer.as_deref().is_some_and(|answer| answer.is_empty() || answer == "success");
    let attempt = Try { time_ms, duration_ms, status, answer, error, accepted };
    if let Some(account) = platform.look().accounts.get_mut(app_id) {
        account.posted.note(n, attempt);
    }
    accepted
}

async fn send(platform: &Platform, letter: &Letter) -> reqwest::Result<(u16, String)> {
    let response = platform
        .http
        .post(&letter.url)
        .query(&letter.query)
        .header("content-type", letter.content_type)
        .header("user-agent", "Mozilla/4.0")
        .body(letter.body.clone())
        .send()
        .await?;
    let status = response.status().as_u16();
    Ok((status, response.text().await?))
}

/// What the console does when the callback is saved: a signed GET whose `echostr` must come back.
/// Gives the answer and whether it is right; `None` when the app has no callback.
pub(crate) async fn check_url(platform: &Platform, app: &App) -> Option<(bool, String)> {
    let callback = app.callback.as_ref()?;
    let (timestamp, nonce, echo) = (platform.clock.now().to_string(), random::digits(9), random::digits(19));
    let signature = sign(&[&callback.token, &timestamp, &nonce]);
    let query = [("signature", &signature), ("timestamp", &timestamp), ("nonce", &nonce), ("echostr", &echo)];
    Some(match platform.http.get(&callback.url).query(&query).send().await {
        Err(error) => (false, error.to_string()),
        Ok(response) => {
            let status = response.status();
            let answer = response.text().await.unwrap_or_default();
            (status.as_u16() == 200 && answer == echo, format!("{} {answer}", status.as_u16()))
        }
    })
}
