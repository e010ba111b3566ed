use entity::{IdentityId, NotificationId, UserId};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::{
    config::Config,
    notification::draft::{Draft, draft},
    recipient::Identity,
};

const NOW: Timestamp = Timestamp(1_000_000);

fn row() -> Model {
    let identity = Identity {
        id: IdentityId(Uuid::nil()),
        user_id: UserId(Uuid::nil()),
        app_id: "wx1".into(),
        openid: "o1".into(),
        has_left: false,
    };
    draft(Draft {
        id: NotificationId(Uuid::nil()),
        identity: &identity,
        template_id: "T",
        no_credit: NoCredit::Fail,
        unsure: Unsure::AtMostOnce,
        priority: 0,
        due_at: NOW,
        time_to_live: Duration::from_mins(1),
        now: NOW,
    })
}

fn delivery() -> Delivery {
    Config::from_toml("").expect("the defaults").delivery
}

fn refused(errcode: i64) -> Came {
    let refusal = Refusal::new(errcode, "no");
    let verdict = refusal.verdict();
    Came::Refused { refusal, verdict }
}

fn next(came: &Came) -> Next {
    after_call(&row(), came, NOW, &delivery(), 0.5)
}

#[test]
fn each_answer_has_its_next_state() {
    let accepted = next(&Came::Accepted { message_id: None });
    assert_eq!((accepted.state, accepted.credit), (State::Accepted, CreditEffect::Keep));

    let unknown = next(&Came::Unknown { problem: "time-out".into(), recognised: false });
    assert_eq!((unknown.state, unknown.due_at), (State::Unsure, NOW + delivery().unsure_deadline));

    let no_credit = next(&refused(43101));
    assert_eq!(
        (no_credit.state, no_credit.reason, no_credit.credit),
        (State::Failed, Some(Reason::NoCredit), CreditEffect::Zero)
    );

    let bad_data = next(&refused(47003));
    assert_eq!(
        (bad_data.state, bad_data.reason, bad_data.credit),
        (State::Failed, Some(Reason::BadData), CreditEffect::GiveBack)
    );
}

#[test]
fn a_rule_that_waits_parks_the_message_when_there_is_no_credit() {
    let waiting = Model { no_credit: NoCredit::Wait, ..row() };
    assert_eq!(after_call(&waiting, &refused(43101), NOW, &delivery(), 0.5).state, State::Waiting);
}

#[test]
fn what_is_not_the_messages_fault_costs_no_attempt() {
    let free = [
        refused(43108),
        Came::Limited { refusal: Refusal::new(45009, "no"), limit: Limit::Day },
        Came::Limited { refusal: Refusal::new(45009, "no"), limit: Limit::Window(Duration::from_mins(1)) },
        refused(45011),
        refused(40164),
        refused(43107),
        Came::NotCalled { because: Hold::Released },
        Came::NotCalled { because: Hold::Token { until: Some(NOW + Duration::from_mins(5)), problem: String::new() } },
    ];
    for came in free {
        let next = next(&came);
        assert_eq!((next.state, next.attempts_used), (State::Pending, 0), "{came:?}");
    }
    assert_eq!(next(&Came::NotSent).attempts_used, 1);
    assert_eq!(next(&refused(-1)).attempts_used, 1);
}

#[test]
fn attempts_end_and_give_the_credit_back() {
    let last = Model { attempts_used: delivery().max_attempts - 1, ..row() };
    let next = after_call(&last, &refused(-1), NOW, &delivery(), 0.5);
    assert_eq!(
        (next.state, next.reason, next.credit),
        (State::Failed, Some(Reason::AttemptsExhausted), CreditEffect::GiveBack)
    );
}

#[test]
fn an_unknown_outcome_follows_its_policy() {
    assert_eq!(at_unsure_deadline(&row(), &delivery()), (State::Failed, Some(Reason::UnknownOutcome)));
    let repeat = Model { unsure: Unsure::AtLeastOnce, ..row() };
    assert_eq!(at_unsure_deadline(&repeat, &delivery()), (State::Pending, None));
}

#[test]
fn a_receipt_never_moves_what_is_settled() {
    for state in [State::Delivered, State::Cancelled, State::Expired, State::Waiting, State::Sending] {
        assert!(!takes_receipt(state, None, true), "{state:?}");
    }
    assert!(!takes_receipt(State::Failed, Some(Reason::NoCredit), false));
    assert!(takes_receipt(State::Failed, Some(Reason::UnknownOutcome), false));
    assert!(takes_receipt(State::Pending, None, true));
    assert!(!takes_receipt(State::Pending, None, false));
}

#[test]
fn a_recognised_message_is_repeated_at_once_for_nine_minutes() {
    let came = Came::Unknown { problem: "time-out".into(), recognised: true };
    let first = Model { first_attempt_at: Some(NOW), ..row() };
    let after = |minutes: u64| after_call(&first, &came, NOW + Duration::from_secs(minutes * 60), &delivery(), 0.5);
    let next = after(0);
    assert_eq!((next.state, next.outcome, next.attempts_used), (State::Pending, Outcome::Unsure, 1));
    assert!(next.due_at > NOW && next.due_at <= NOW + delivery().back_off_initial);
    assert_eq!(after(8).state, State::Pending);
    assert_eq!(after(9).state, State::Unsure, "then the rule's policy decides");

    // Neither a pause that would end too late nor the last attempt is a repeat.
    let slow = Model { attempts_used: 6, ..first.clone() };
    let delivery = Delivery { back_off_initial: Duration::from_mins(10), ..delivery() };
    assert_eq!(after_call(&slow, &came, NOW, &delivery, 1.0).state, State::Unsure);
    let last = Model { attempts_used: delivery.max_attempts - 1, ..first.clone() };
    assert_eq!(after_call(&last, &came, NOW, &delivery, 0.5).state, State::Unsure);
    assert_eq!(after_call(&row(), &came, NOW, &delivery, 0.5).state, State::Unsure, "its first call is not known");
}

#[test]
fn a_repeat_that_wechat_would_not_recognise_is_not_made_against_the_policy() {
    let late = NOW + RECOGNISED_FOR;
    let second = Model { first_attempt_at: Some(NOW), attempt_number: 2, ..row() };
    assert!(is_too_late_to_repeat(&second, late));
    assert!(!is_too_late_to_repeat(&second, NOW));
    assert!(!is_too_late_to_repeat(&Model { attempt_number: 1, ..second.clone() }, late));
    assert!(!is_too_late_to_repeat(&Model { replays: 1, ..second.clone() }, late));
    assert!(!is_too_late_to_repeat(&Model { unsure: Unsure::AtLeastOnce, ..second }, late));
}

proptest! {
    #[test]
    fn the_pause_grows_and_stays_within_its_bounds(used in 0..40, jitter in 0.0..1.0) {
        let delivery = delivery();
        let pause = back_off(used, &delivery, jitter);
        prop_assert!(pause > Duration::ZERO && pause <= delivery.back_off_max);
        prop_assert!(back_off(used + 1, &delivery, jitter) >= pause);
    }
}
