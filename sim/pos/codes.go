package pos

// success is facts/unionpay.md §7: 00 plain, 10 partial, 11, A2, A4, A5 and A6 with a remark.
func success(code string) bool {
	switch code {
	case "00", "10", "11", "A2", "A4", "A5", "A6":
		return true
	default:
		return false
	}
}

// signOnAgain says that after this code the terminal must sign on before it trades (facts/unionpay.md §7).
func signOnAgain(code string) bool {
	switch code {
	case "22", "77", "97", "99", "A0":
		return true
	default:
		return false
	}
}

// meaning is what a terminal shows for a response code, in English and Chinese (facts/unionpay.md §7).
func meaning(code string) (english, chinese string) {
	if code == "" {
		return "", ""
	}
	if m, ok := meanings[code]; ok {
		return m[0], m[1]
	}
	return "transaction failed", "交易失败"
}

var meanings = map[string][2]string{
	"00": {"approved", "交易成功"},
	"01": {"ask the issuer", "请持卡人与发卡银行联系"},
	"02": {"ask the issuer", "请持卡人与发卡银行联系"},
	"03": {"merchant not registered", "无效商户"},
	"04": {"capture the card", "此卡被没收"},
	"05": {"declined by the issuer", "持卡人认证失败"},
	"06": {"issuer fault", "发卡行故障"},
	"07": {"capture the card", "此卡被没收"},
	"09": {"in progress, try again", "交易处理中，请稍后重试"},
	"10": {"partly approved: collect the rest", "部分承兑"},
	"11": {"approved (VIP)", "交易成功，VIP客户"},
	"12": {"transaction not supported by the issuer", "无效交易"},
	"13": {"amount not valid", "无效金额"},
	"14": {"card number not valid", "无效卡号"},
	"15": {"issuer not connected", "此卡无对应发卡方"},
	"22": {"terminal state differs from the centre: sign on again", "操作有误，请重新签到"},
	"25": {"original transaction not found", "没有原始交易"},
	"30": {"format error: call the acquirer", "报文格式错误"},
	"33": {"card expired", "过期的卡"},
	"34": {"suspected fraud: capture the card", "有作弊嫌疑，没收卡"},
	"38": {"too many wrong PINs", "密码错误次数超限"},
	"40": {"function not supported", "发卡方不支持的交易类型"},
	"41": {"lost card: capture it", "挂失卡，没收卡"},
	"43": {"stolen card: capture it", "被窃卡，没收卡"},
	"45": {"use the chip", "请使用芯片"},
	"51": {"not enough money on the account", "可用余额不足"},
	"54": {"card expired", "卡已过期"},
	"55": {"wrong PIN", "密码错"},
	"57": {"transaction not allowed for this card", "不允许此卡交易"},
	"58": {"transaction not allowed for this terminal", "发卡方不允许该卡在本终端进行此交易"},
	"61": {"amount over limit", "交易金额超限"},
	"62": {"restricted card", "受限制的卡"},
	"64": {"amount differs from the original", "交易金额与原交易不匹配"},
	"65": {"too many transactions", "超出消费次数限制"},
	"68": {"no timely answer from the issuer: try again", "交易超时，请重试"},
	"75": {"too many wrong PINs", "密码错误次数超限"},
	"77": {"not signed on, or another batch: sign on again", "请重新签到"},
	"79": {"offline reconciliation error", "POS终端重传脱机数据"},
	"90": {"day cut-over, try later", "系统日切，请稍后重试"},
	"91": {"issuer or switch out of service", "发卡方状态不正常，请稍后重试"},
	"92": {"issuer cannot be reached", "发卡方线路异常，请稍后重试"},
	"93": {"illegal transaction", "交易违法"},
	"94": {"duplicate trace", "拒绝，重复交易，请稍后重试"},
	"95": {"reconciliation error", "对账不平"},
	"96": {"system fault at the centre", "系统异常，请稍后重试"},
	"97": {"terminal not registered", "终端未登记"},
	"98": {"the centre got no answer from the issuer", "发卡方超时"},
	"99": {"PIN format error: sign on again", "PIN格式错，请重新签到"},
	"A0": {"MAC wrong: sign on again", "MAC校验错，请重新签到"},
	"A1": {"transfer currency differs", "转账货币不一致"},
	"A2": {"approved, confirm with the issuer", "交易成功，请向发卡行确认"},
	"A3": {"account not valid", "账户不正确"},
	"A4": {"approved, confirm with the issuer", "交易成功，请向发卡行确认"},
	"A5": {"approved, confirm with the issuer", "交易成功，请向发卡行确认"},
	"A6": {"approved, confirm with the issuer", "交易成功，请向发卡行确认"},
	"A7": {"security fault at the centre", "安全处理失败"},
}
