//! The table of paths.

use super::{
    For, Handler, Takes, access_token, diagnosis, follower, library, login, network, phone_number, private_template,
    session_key, subscribe_message, template, template_message,
};

/// Paths that hand a message to one person; WeChat works on one per person at a time.
pub(crate) const ONE_AT_A_TIME: &[&str] = &["/cgi-bin/message/subscribe/send"];

pub(crate) fn route(path: &str) -> Option<(Takes, Handler)> {
    use For::{Both, MiniProgram, ServiceAccount};
    use Handler::{Open, WithToken, WithTokenAndWorld};
    use Takes::{Either, Get, Post};
    Some(match path {
        "/sns/jscode2session" => (Either, Open(login::code_to_session)),
        "/cgi-bin/token" => (Get, Open(access_token::classic)),
        "/cgi-bin/stable_token" => (Post, Open(access_token::stable)),

        "/cgi-bin/message/subscribe/send" => (Post, WithToken(MiniProgram, subscribe_message::send)),
        "/wxaapi/newtmpl/gettemplate" => (Get, WithToken(Both, template::list)),
        "/wxaapi/newtmpl/addtemplate" => (Post, WithToken(Both, template::add)),
        "/wxaapi/newtmpl/deltemplate" => (Post, WithToken(Both, template::delete)),
        "/wxaapi/newtmpl/getcategory" => (Get, WithToken(Both, library::categories)),
        "/wxaapi/newtmpl/getpubtemplatetitles" => (Get, WithToken(Both, library::titles)),
        "/wxaapi/newtmpl/getpubtemplatekeywords" => (Get, WithToken(Both, library::keywords)),

        "/wxa/checksession" => (Get, WithToken(MiniProgram, session_key::check)),
        "/wxa/resetusersessionkey" => (Get, WithToken(MiniProgram, session_key::reset)),
        "/wxa/business/getuserphonenumber" => (Post, WithTokenAndWorld(MiniProgram, phone_number::get)),

        "/cgi-bin/message/template/send" => (Post, WithToken(ServiceAccount, template_message::send)),
        "/cgi-bin/template/get_all_private_template" => (Get, WithToken(ServiceAccount, private_template::list)),
        "/cgi-bin/template/api_add_template" => (Post, WithToken(ServiceAccount, private_template::add)),
        "/cgi-bin/template/del_private_template" => (Post, WithToken(ServiceAccount, private_template::delete)),
        "/cgi-bin/template/get_industry" => (Get, WithToken(ServiceAccount, private_template::industry)),
        "/cgi-bin/user/info" => (Get, WithToken(ServiceAccount, follower::info)),
        "/cgi-bin/user/info/batchget" => (Post, WithToken(ServiceAccount, follower::batch)),
        "/cgi-bin/user/get" => (Get, WithToken(ServiceAccount, follower::list)),

        "/cgi-bin/clear_quota" => (Post, WithToken(Both, diagnosis::clear_all)),
        "/cgi-bin/clear_quota/v2" => (Post, Open(diagnosis::clear_all_by_secret)),
        "/cgi-bin/openapi/quota/get" => (Post, WithToken(Both, diagnosis::quota)),
        "/cgi-bin/openapi/quota/clear" => (Post, WithToken(Both, diagnosis::clear_one)),
        "/cgi-bin/openapi/rid/get" => (Post, WithTokenAndWorld(Both, diagnosis::rid)),
        "/cgi-bin/callback/check" => (Post, WithToken(Both, network::check_callback)),
        "/cgi-bin/get_api_domain_ip" | "/cgi-bin/getcallbackip" => (Get, WithToken(Both, network::addresses)),
        _ => return None,
    })
}
