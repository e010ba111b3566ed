//! The formats of events: plain JSON, and CloudEvents 1.0 in structured, batched and binary mode.

use poem::{FromRequest, Request, RequestBody, Result, http::HeaderMap};
use poem_openapi::{
    ApiRequest, Object, Union,
    payload::{ParsePayload, Payload},
    registry::{MetaSchemaRef, Registry},
    types::{Any, Example, Type},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{body, nul, problem::Failure, time::Time},
    clock,
    error::{Code, Error, FieldError},
    event::Incoming,
    rule::compiled::split_recipients,
};

/// Events of one request at most.
pub const MOST: usize = 100;

/// An event in plain JSON.
#[derive(Object, Deserialize)]
#[serde(deny_unknown_fields)]
#[oai(deny_unknown_fields, example)]
pub struct PlainEvent {
    /// Who says it, such as `shop`.
    source: String,
    /// Your id of the event, unique in `source`: a repeat is answered as a duplicate.
    id: String,
    /// What happened, such as `order.shipped`.
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    event_type: String,
    /// When it happened; now when missing.
    time: Option<Time>,
    /// Whom to tell: one reference or a list of `usr_…`, `external:YOUR_ID`, `openid:APPID/OPENID`,
    /// `unionid:UNIONID`, `audience:consented` for everybody who agreed to the rule's template. Not needed when the
    /// rule computes its recipients. More than 100 (at most 100,000) are notified one portion after the other.
    to: Option<Recipients>,
    /// What the rules' expressions see as `data`.
    data: Option<Any<Value>>,
    /// Send at this time, within 30 days, whatever delay the rule has; at once when it has passed.
    deliver_at: Option<Time>,
    /// How long the messages are worth sending, from the time they may be sent; instead of the rule's.
    ttl_seconds: Option<i64>,
    /// -100 to 100, higher goes first; instead of the rule's.
    priority: Option<i32>,
}

impl Example for PlainEvent {
    fn example() -> Self {
        Self {
            source: "shop".into(),
            id: "order-42-shipped".into(),
            event_type: "order.shipped".into(),
            time: None,
            to: Some(Recipients::One("openid:wxdemo0000000001/oDemo00000000000000000000001".into())),
            data: Some(Any(serde_json::json!({
                "order_no": "NO.42", "item": "红富士苹果 5kg", "shipped_at": "2026年1月2日 11:04"
            }))),
            deliver_at: None,
            ttl_seconds: None,
            priority: None,
        }
    }
}

/// One reference or a list of them.
#[derive(Union, Deserialize)]
#[serde(untagged, expecting = "one reference or a list of references")]
#[oai(one_of)]
pub enum Recipients {
    One(String),
    Several(Vec<String>),
}

impl Recipients {
    pub fn into_list(self) -> Vec<String> {
        match self {
            Self::One(to) => vec![to],
            Self::Several(to) => to,
        }
    }
}

/// An event in structured mode (CloudEvents 1.0, JSON format).
#[derive(Object, Deserialize)]
pub struct CloudEvent {
    /// `1.0`
    specversion: String,
    id: String,
    source: String,
    #[oai(rename = "type")]
    #[serde(rename = "type")]
    event_type: String,
    time: Option<Time>,
    /// Whom to tell, when there is no `to`.
    subject: Option<String>,
    datacontenttype: Option<String>,
    data: Option<Any<Value>>,
    /// Extension attribute: whom to tell, separated by commas.
    to: Option<String>,
    /// Extension attribute: send at this time, within 30 days.
    deliverat: Option<Time>,
    /// Extension attribute: how long the messages are worth sending.
    ttlseconds: Option<i64>,
    /// Extension attribute: -100 to 100, higher goes first.
    priority: Option<i32>,
}

/// One event or a list of at most 100.
#[derive(Union)]
#[oai(one_of)]
enum PlainEvents {
    One(Box<PlainEvent>),
    Several(Vec<PlainEvent>),
}

/// `application/json`: plain events, or the data of a `CloudEvent` in binary mode.
pub struct Plain(Given);
/// `application/cloudevents-batch+json`.
pub struct Batch(Given);
/// `application/cloudevents+json`.
pub struct Structured(Given);

/// Events in one of their formats.
#[derive(ApiRequest)]
pub enum EventBody {
    #[oai(content_type = "application/json")]
    Plain(Plain),
    #[oai(content_type = "application/cloudevents+json")]
    CloudEvent(Structured),
    #[oai(content_type = "application/cloudevents-batch+json")]
    Batch(Batch),
}

/// What a request holds.
pub enum Given {
    One(Box<Incoming>),
    /// Each by itself: one that is wrong does not keep the others from being accepted.
    Several(Vec<Result<Incoming, Error>>),
}

impl Given {
    pub fn count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Several(events) => events.len(),
        }
    }
}

impl EventBody {
    /// With the only apps whose rules apply.
    pub fn given(self, app_ids: Option<Vec<String>>) -> Given {
        let (Self::Plain(Plain(mut given)) | Self::CloudEvent(Structured(mut given)) | Self::Batch(Batch(mut given))) =
            self;
        match &mut given {
            Given::One(event) => event.app_ids = app_ids,
            Given::Several(events) => {
                for event in events.iter_mut().flatten() {
                    event.app_ids.clone_from(&app_ids);
                }
            }
        }
        given
    }
}

macro_rules! payload {
    ($name:ident, $described:ty, $content_type:literal, $read:expr) => {
        impl Payload for $name {
            const CONTENT_TYPE: &'static str = $content_type;

            fn schema_ref() -> MetaSchemaRef {
                <$described>::schema_ref()
            }

            fn register(registry: &mut Registry) {
                <$described>::register(registry);
            }
        }

        impl ParsePayload for $name {
            const IS_REQUIRED: bool = true;

            async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
                let bytes = <Vec<u8> as FromRequest>::from_request(request, body).await?;
                let read: fn(&HeaderMap, &[u8]) -> std::result::Result<Given, Error> = $read;
                Ok(Self(read(request.headers(), &bytes).map_err(Failure::from)?))
            }
        }
    };
}

payload!(Plain, PlainEvents, "application/json", |headers, bytes| {
    if headers.contains_key("ce-specversion") {
        return binary(headers, bytes).map(|event| Given::One(Box::new(event)));
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return several(bytes, |event: PlainEvent| Ok(event.into()));
    }
    Ok(Given::One(Box::new(body::read::<PlainEvent>(bytes)?.into())))
});
payload!(Structured, CloudEvent, "application/cloudevents+json", |_, bytes| {
    body::read::<CloudEvent>(bytes)?.try_into().map(|event| Given::One(Box::new(event)))
});
payload!(Batch, Vec<CloudEvent>, "application/cloudevents-batch+json", |_, bytes| {
    several(bytes, |event: CloudEvent| event.try_into())
});

fn several<T: DeserializeOwned>(
    bytes: &[u8],
    into: fn(T) -> std::result::Result<Incoming, Error>,
) -> std::result::Result<Given, Error> {
    let items: Vec<Value> = body::read(bytes)?;
    if items.is_empty() || items.len() > MOST {
        let reason = format!("holds {} events; send 1 to {MOST} at once", items.len());
        return Err(Error::field("", reason));
    }
    let items = items.into_iter().map(|item| nul::check(&item).and_then(|()| body::read_value(item)).and_then(into));
    Ok(Given::Several(items.collect()))
}

/// The attributes are headers, the body is the data.
fn binary(headers: &HeaderMap, bytes: &[u8]) -> std::result::Result<Incoming, Error> {
    let text = |name: &'static str| {
        let Some(value) = headers.get(name) else { return Ok(None) };
        // Percent-encoded UTF-8 (HTTP protocol binding, 3.1.3.2).
        let decoded = percent_encoding::percent_decode(value.as_bytes()).decode_utf8();
        decoded.map(|text| Some(text.into_owned())).map_err(|_| Error::field(name, "must be percent-encoded UTF-8"))
    };
    let required = |name: &'static str| text(name)?.ok_or_else(|| Error::field(name, "is missing"));
    let time = |name: &'static str| {
        let wrong = || Error::field(name, "must be a time such as 2026-01-02T03:04:05Z");
        text(name)?.map(|text| clock::from_rfc3339(&text).ok_or_else(wrong)).transpose()
    };
    if required("ce-specversion")? != "1.0" {
        return Err(Error::field("ce-specversion", "must be 1.0"));
    }
    Ok(Incoming {
        source: required("ce-source")?,
        id: required("ce-id")?,
        event_type: required("ce-type")?,
        time: time("ce-time")?,
        subject: text("ce-subject")?,
        to: text("ce-to")?.map(|to| split_recipients(&to)).unwrap_or_default(),
        data: if bytes.is_empty() { Value::Null } else { body::read(bytes)? },
        deliver_at: time("ce-deliverat")?,
        ttl_seconds: number("ce-ttlseconds", text("ce-ttlseconds")?)?,
        priority: number("ce-priority", text("ce-priority")?)?,
        direct: None,
        app_ids: None,
    })
}

fn number<N: std::str::FromStr>(name: &str, text: Option<String>) -> std::result::Result<Option<N>, Error> {
    text.map(|text| text.parse().map_err(|_| Error::field(name, "must be a whole number"))).transpose()
}

impl From<PlainEvent> for Incoming {
    fn from(event: PlainEvent) -> Self {
        Self {
            source: event.source,
            id: event.id,
            event_type: event.event_type,
            time: event.time.map(|time| time.0),
            subject: None,
            to: event.to.map(Recipients::into_list).unwrap_or_default(),
            data: event.data.map_or(Value::Null, |data| data.0),
            deliver_at: event.deliver_at.map(|time| time.0),
            ttl_seconds: event.ttl_seconds,
            priority: event.priority,
            direct: None,
            app_ids: None,
        }
    }
}

impl TryFrom<CloudEvent> for Incoming {
    type Error = Error;

    fn try_from(event: CloudEvent) -> std::result::Result<Self, Error> {
        if event.specversion != "1.0" {
            return Err(Error::field("/specversion", "must be 1.0"));
        }
        if event.datacontenttype.as_ref().is_some_and(|kind| !kind.contains("json")) {
            return Err(Error::field("/datacontenttype", "must be JSON"));
        }
        Ok(Self {
            source: event.source,
            id: event.id,
            event_type: event.event_type,
            time: event.time.map(|time| time.0),
            subject: event.subject,
            to: event.to.map(|to| split_recipients(&to)).unwrap_or_default(),
            data: event.data.map_or(Value::Null, |data| data.0),
            deliver_at: event.deliverat.map(|time| time.0),
            ttl_seconds: event.ttlseconds,
            priority: event.priority,
            direct: None,
            app_ids: None,
        })
    }
}

/// The fault's place in the list instead of in its item.
pub fn at_place(mut error: Error, place: usize) -> Error {
    for FieldError { pointer, .. } in &mut error.fields {
        *pointer = format!("/{place}{pointer}");
    }
    error
}

/// One event; a list is refused.
pub fn only_one(given: Given) -> std::result::Result<Incoming, Error> {
    match given {
        Given::One(event) => Ok(*event),
        Given::Several(_) => Err(Error::new(Code::InvalidRequest).detail("One event at a time is looked at.")),
    }
}
