//! WeChat's error codes and their texts (全局返回码).

/// A call that WeChat refuses; the door adds the rid to the text.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub errcode: i64,
    pub errmsg: String,
}

pub(crate) fn refuse<T>(errcode: i64) -> Result<T, Refusal> {
    Err(Refusal::of(errcode))
}

pub(crate) fn refuse_with<T>(errcode: i64, errmsg: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { errcode, errmsg: errmsg.into() })
}

impl Refusal {
    pub(crate) fn of(errcode: i64) -> Self {
        Self { errcode, errmsg: usual_text(errcode).to_owned() }
    }
}

pub(crate) fn usual_text(errcode: i64) -> &'static str {
    match errcode {
        -1 => "system error",
        0 => "ok",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40013 => "invalid appid",
        40014 => "invalid access_token",
        40029 => "invalid code",
        40032 => "invalid openid list size",
        40033 => "invalid charset. please check your request, if include \\uxxxx will create fail!",
        40036 => "invalid template_id size",
        40037 => "invalid template_id",
        40039 => "invalid url size",
        40066 => "invalid url",
        40097 => "invalid args",
        40125 => "invalid appsecret",
        40163 => "code been used",
        40164 => "invalid ip, not in whitelist",
        40201 => "callback url not set",
        40202 => "invalid action",
        40203 => "invalid check_operator",
        40226 => "code blocked",
        40243 => "AppSecret is frozen",
        40246 => "invalid keyword_name_list",
        41001 => "access_token missing",
        41002 => "appid missing",
        41004 => "appsecret missing",
        41008 => "missing code",
        41030 => "invalid page",
        42001 => "access_token expired",
        43001 => "require GET method",
        43002 => "require POST method",
        43004 => "require subscribe",
        43019 => "require remove blacklist",
        43101 => "user refuse to accept the msg",
        43104 => "appid not match",
        43107 => "subscribe message ability banned",
        43108 => "concurrent sending to the same user",
        44002 => "empty post data",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit  mustslower  retry next minute",
        45026 => "template num exceed limit",
        45168 => "hit sensitive word",
        47001 => "data format error",
        47003 => "argument invalid!",
        48001 => "api unauthorized",
        48006 => "forbid to clear quota because of reaching the limit",
        61010 => "code is expired",
        76001 => "rid not found",
        76002 => "rid format error",
        76003 => "rid not belong to this account",
        76004 => "rid expired",
        76021 => "cgi_path not found, please check",
        76022 => "could not use this cgi_path, no permission",
        87007 => "session_key is not existd or expired",
        87008 => "invalid sig_method",
        87009 => "invalid signature",
        200002 => "invalid args",
        200011 => "account banned",
        200012 => "template num exceed limit",
        200014 => "invalid tid",
        200016 => "start param error",
        200017 => "limit param error",
        200018 => "ids param missing",
        200019 => "ids param invalid",
        200020 => "invalid kidList",
        200021 => "invalid sceneDesc",
        200022 => "template already exists",
        200100 => "account type not allowed",
        _ => "api error",
    }
}
