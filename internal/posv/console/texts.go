package console

import "fmt"

// text is the message in the language; a key that is missing shows itself, and a test keeps that from happening.
func text(lang, key string, args ...any) string {
	s, ok := texts[lang][key]
	if !ok {
		return key
	}
	if len(args) > 0 {
		return fmt.Sprintf(s, args...)
	}
	return s
}

// texts are all words of the console by language. "group.value" keys name the values of fixed lists.
var texts = map[string]map[string]string{
	"en": {
		"product": "Keyward", "console": "Terminal console", "skip": "Skip to the content", "language": "Language", "times": "Times: %s", "made": "Page made at",
		"terminals.title": "Terminals", "terminal.title": "Terminal", "fault.title": "The page could not be made", "missing.title": "Not found",
		"fault.text":   "The database does not answer, or an error happened. Try again in a moment; GET /readyz says which part is missing.",
		"missing.text": "This terminal is not registered. Go back to the list, or register it with: posv terminal add",
		"back":         "All terminals",
		"registered":   "Registered", "active": "Active", "signed_on": "Signed on", "never": "Never signed on", "looping": "Sign-on loops",
		"chart.title": "Sign-ons in the last 24 hours", "chart.text": "%d sign-ons, at most %d in one hour", "chart.bar": "%s to %s: %d", "chart.now": "now",
		"filter.legend": "Find terminals", "filter.text": "Text", "filter.hint": "terminal, merchant or card", "filter.state": "State", "filter.keys": "Sign-on", "filter.any": "any", "filter.do": "Find", "filter.clear": "Show all",
		"live.on": "Updates every 2 seconds", "live.off": "Updates are paused", "live.fault": "No connection; trying again", "live.pause": "Pause updates", "live.go": "Resume updates",
		"reload.on": "Reload every 5 seconds", "reload.off": "Stop reloading",
		"caption": "Terminals in the order of their numbers", "col.terminal": "Terminal", "col.merchant": "Merchant", "col.state": "State", "col.card": "PSAM card", "col.keys": "Signed on", "col.last": "Last sign-on", "col.kcv": "Key check value",
		"none": "none", "loop.flag": "signs on again and again", "loop.hint": "%d sign-ons in 10 minutes, keys never used: check that the card's master key is the one registered",
		"merchant.suspended": "merchant suspended", "test": "test", "empty.none": "No terminal is registered yet.",
		"empty.next": "Register a merchant and a terminal, then issue and bind a card:", "empty.filter": "No terminal matches.",
		"pages": "Pages", "page.first": "First page", "page.next": "Next page",
		"detail.facts": "Registration", "detail.algorithm": "Algorithm of the working keys", "detail.mak": "MAC key", "detail.bytes": "%d bytes", "detail.profile": "Profile", "detail.load": "Key loading", "detail.created": "Registered", "detail.updated": "Last change",
		"detail.key": "Master key check value", "detail.use": "Keys first used", "detail.bindings": "Card history", "detail.events": "Events", "detail.signons": "Last sign-ons",
		"col.from": "From", "col.to": "Until", "col.reason": "Reason", "col.actor": "By", "col.at": "Time", "col.event": "Event", "col.change": "State", "col.detail": "Details", "col.version": "No.", "col.used": "First use", "col.ends": "Valid until", "col.pik": "PIN key", "col.mak": "MAC key", "col.tdk": "Track key", "now.valid": "valid now",
		"empty.bindings": "No card was ever bound. Bind one with: posv terminal bind %s --psam NUMBER", "empty.events": "No events.", "empty.signons": "This terminal never signed on.",
		"state.active": "active", "state.suspended": "suspended", "state.lost": "lost", "state.retired": "retired",
		"card.registered": "registered", "card.personalised": "personalised", "card.in_service": "in service", "card.suspended": "suspended", "card.lost": "lost", "card.retired": "retired", "card.destroyed": "destroyed",
		"keys.in_use": "yes, keys in use", "keys.pending": "yes, keys not used yet", "keys.over": "no, keys ended", "keys.never": "never", "keys.looping": "sign-on loops",
		"set.pending": "waiting for use", "set.active": "in use", "set.grace": "being replaced", "set.ended": "ended", "set.expired": "expired unused",
		"event.registered": "registered", "event.changed": "changed", "event.suspended": "suspended", "event.resumed": "resumed", "event.lost": "lost", "event.retired": "retired", "event.bound": "card bound", "event.unbound": "card taken out",
		"fact.reason": "reason:", "fact.psam_no": "card", "fact.former_psam_no": "former card", "fact.terminal_id": "terminal", "fact.merchant_id": "merchant", "fact.former_merchant_id": "former merchant", "fact.algorithm": "algorithm", "fact.former_algorithm": "former algorithm", "fact.mak_length": "MAC key bytes", "fact.former_mak_length": "former MAC key bytes", "fact.test": "test", "fact.former_test": "test before", "fact.profile": "profile", "fact.former_profile": "former profile",
		"ago.now": "just now", "ago.seconds": "%d s ago", "ago.minutes": "%d min ago", "ago.hours": "%d h ago", "ago.days": "%d days ago",
	},
	"zh": {
		"product": "Keyward", "console": "终端管理台", "skip": "跳到正文", "language": "语言", "times": "时区：%s", "made": "页面生成于",
		"terminals.title": "终端", "terminal.title": "终端", "fault.title": "页面无法生成", "missing.title": "未找到",
		"fault.text":   "数据库没有应答，或发生了错误。请稍后重试；GET /readyz 会说明缺少哪一部分。",
		"missing.text": "该终端未登记。请返回列表，或用以下命令登记：posv terminal add",
		"back":         "全部终端",
		"registered":   "已登记", "active": "已启用", "signed_on": "已签到", "never": "从未签到", "looping": "反复签到",
		"chart.title": "最近 24 小时签到", "chart.text": "共 %d 次签到，单小时最多 %d 次", "chart.bar": "%s 至 %s：%d", "chart.now": "现在",
		"filter.legend": "查找终端", "filter.text": "关键字", "filter.hint": "终端号、商户或卡号", "filter.state": "状态", "filter.keys": "签到", "filter.any": "不限", "filter.do": "查找", "filter.clear": "显示全部",
		"live.on": "每 2 秒更新", "live.off": "已暂停更新", "live.fault": "连接中断，正在重试", "live.pause": "暂停更新", "live.go": "继续更新",
		"reload.on": "每 5 秒重新载入", "reload.off": "停止重新载入",
		"caption": "终端列表（按终端号排序）", "col.terminal": "终端号", "col.merchant": "商户", "col.state": "状态", "col.card": "PSAM 卡", "col.keys": "签到状态", "col.last": "最近签到", "col.kcv": "密钥校验值",
		"none": "无", "loop.flag": "反复签到", "loop.hint": "10 分钟内签到 %d 次，密钥从未使用：请核对卡内主密钥与登记的是否一致",
		"merchant.suspended": "商户已停用", "test": "测试", "empty.none": "还没有登记终端。",
		"empty.next": "先登记商户和终端，再发卡并绑定：", "empty.filter": "没有符合条件的终端。",
		"pages": "分页", "page.first": "首页", "page.next": "下一页",
		"detail.facts": "登记信息", "detail.algorithm": "工作密钥算法", "detail.mak": "MAC 密钥", "detail.bytes": "%d 字节", "detail.profile": "报文规范", "detail.load": "密钥装载方式", "detail.created": "登记时间", "detail.updated": "最近变更",
		"detail.key": "主密钥校验值", "detail.use": "密钥首次使用", "detail.bindings": "绑卡历史", "detail.events": "事件", "detail.signons": "最近签到",
		"col.from": "起", "col.to": "止", "col.reason": "原因", "col.actor": "操作人", "col.at": "时间", "col.event": "事件", "col.change": "状态", "col.detail": "说明", "col.version": "序号", "col.used": "首次使用", "col.ends": "有效至", "col.pik": "PIN 密钥", "col.mak": "MAC 密钥", "col.tdk": "磁道密钥", "now.valid": "当前有效",
		"empty.bindings": "从未绑定过卡。绑定命令：posv terminal bind %s --psam 卡号", "empty.events": "没有事件。", "empty.signons": "该终端从未签到。",
		"state.active": "启用", "state.suspended": "停用", "state.lost": "丢失", "state.retired": "注销",
		"card.registered": "已登记", "card.personalised": "已个人化", "card.in_service": "使用中", "card.suspended": "停用", "card.lost": "丢失", "card.retired": "注销", "card.destroyed": "已销毁",
		"keys.in_use": "是，密钥使用中", "keys.pending": "是，密钥未使用", "keys.over": "否，密钥已失效", "keys.never": "从未签到", "keys.looping": "反复签到",
		"set.pending": "等待使用", "set.active": "使用中", "set.grace": "更换中", "set.ended": "已结束", "set.expired": "未使用而过期",
		"event.registered": "登记", "event.changed": "变更", "event.suspended": "停用", "event.resumed": "恢复", "event.lost": "丢失", "event.retired": "注销", "event.bound": "绑卡", "event.unbound": "取卡",
		"fact.reason": "原因：", "fact.psam_no": "卡", "fact.former_psam_no": "原卡", "fact.terminal_id": "终端", "fact.merchant_id": "商户", "fact.former_merchant_id": "原商户", "fact.algorithm": "算法", "fact.former_algorithm": "原算法", "fact.mak_length": "MAC 密钥字节数", "fact.former_mak_length": "原 MAC 密钥字节数", "fact.test": "测试", "fact.former_test": "原测试标志", "fact.profile": "报文规范", "fact.former_profile": "原报文规范",
		"ago.now": "刚刚", "ago.seconds": "%d 秒前", "ago.minutes": "%d 分钟前", "ago.hours": "%d 小时前", "ago.days": "%d 天前",
	},
}
