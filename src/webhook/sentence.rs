//! What went wrong with an endpoint, in words for people: English, Chinese.

use entity::{webhook::DisabledBecause, webhook_delivery::Problem};

/// Why a call did not count as received, and the way out.
pub fn problem(problem: Problem) -> (&'static str, &'static str) {
    match problem {
        Problem::Status => {
            ("The endpoint did not answer with 2xx; redirects are not followed.", "接收端未返回 2xx;不会跟随重定向。")
        }
        Problem::TimedOut => (
            "The endpoint did not answer in time. Answer first, then do the work.",
            "接收端未及时响应。请先应答,再处理。",
        ),
        Problem::Unreachable => (
            "No connection to the endpoint; check its address, its certificate and its firewall.",
            "无法连接接收端;请检查地址、证书与防火墙。",
        ),
        Problem::AddressRefused => (
            "The address is not allowed: it leads to an internal network, or is not https. The operator may add the network to webhooks.allowed_networks.",
            "地址不被允许:指向内部网络,或不是 https。运维可将该网络加入 webhooks.allowed_networks。",
        ),
        Problem::EndpointDisabled => ("The endpoint was switched off while this waited.", "等待期间该接收端已被停用。"),
        Problem::Erased => ("The person it was about was erased.", "相关用户的数据已被删除。"),
    }
}

/// Why Magpie switched an endpoint off, and the way out.
pub fn disabled(because: DisabledBecause) -> (&'static str, &'static str) {
    match because {
        DisabledBecause::Gone => (
            "It answered 410 Gone. Switch it on again when it wants to be told.",
            "接收端返回了 410 Gone。需要时请重新启用。",
        ),
        DisabledBecause::Failing => (
            "For days nothing but failures came from it. Mend it, then switch it on again.",
            "接收端连续多日失败。修复后请重新启用。",
        ),
    }
}
