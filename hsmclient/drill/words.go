package drill

// words are the texts of the page in English and Chinese, by code.
var words = map[string][2]string{
	"title":      {"HSM failure drill", "加密机故障演练"},
	"passed":     {"passed", "通过"},
	"failed":     {"failed", "未通过"},
	"incomplete": {"incomplete", "未完成"},
	"running":    {"running", "进行中"},
	"not_judged": {"not judged", "不予评判"},

	"refuse":     {"connections refused", "拒绝连接"},
	"black_hole": {"black hole: nothing answers", "黑洞：请求无应答"},
	"slow":       {"slow answers", "应答缓慢"},
	"wrong_lmk":  {"another LMK", "LMK 不一致"},

	"member": {"Member", "成员"}, "domain": {"LMK domain", "LMK 域"}, "kind": {"Fault", "故障方式"}, "cluster": {"Cluster", "集群"},
	"started": {"Started", "开始时间"}, "by": {"Ordered by", "操作员"}, "reason": {"Reason", "原因"}, "forced": {"forced", "强制执行"},
	"delay": {"delay", "延迟"}, "cause": {"Ended early", "提前结束"}, "id": {"Drill", "演练编号"},

	"detection_time": {"Detection", "发现时间"}, "decided_time": {"Taken out", "摘除时间"}, "switch_time": {"Switch", "切换时间"},
	"recovery_time": {"Recovery", "恢复时间"}, "restored_time": {"Back in place", "归位时间"}, "failed_requests": {"Failed", "失败请求"},
	"retried_requests": {"Retried", "重试请求"},
	"detection_help":   {"fault until suspect", "从故障到可疑"}, "decided_help": {"fault until down or fenced", "从故障到停用或隔离"},
	"switch_help":   {"fault until the last request it disturbed", "从故障到最后一个受影响的请求"},
	"recovery_help": {"end of the fault until healthy", "从故障解除到健康"}, "restored_help": {"end of the fault until its former state", "从故障解除到原状态"},
	"failed_help":  {"since the fault began", "故障开始以来"},
	"retried_help": {"on another member, since the fault began", "故障开始以来，在其他成员上重试"},

	"verdict": {"Verdict against the limits", "对照限值的结论"}, "check": {"Check", "检查项"}, "limit": {"Limit", "限值"},
	"measured": {"Measured", "实测"}, "result": {"Result", "结果"}, "note": {"Note", "说明"},
	"check_taken_out": {"Member taken out", "成员被摘除"}, "check_detection": {"Detection time", "发现时间"}, "check_switch": {"Switch time", "切换时间"},
	"check_failed": {"Failed requests", "失败请求数"}, "check_latency": {"Latency, 95th percentile, factor", "延迟 95 百分位倍数"},
	"check_recovery": {"Recovery time", "恢复时间"}, "check_restored": {"Member back in its place", "成员归位"},
	"judged_traffic": {"Latency is judged by the traffic of the running system.", "延迟按实际业务流量评判。"},
	"judged_own":     {"Latency is judged by the drill's own load.", "延迟按演练自身负载评判。"},

	"latency_chart": {"Latency over time", "延迟随时间变化"}, "requests_chart": {"Requests per second", "每秒请求数"},
	"states_chart": {"States of the members", "成员状态"},
	"seconds":      {"seconds since the start", "自开始起的秒数"}, "milliseconds": {"ms, logarithmic", "毫秒，对数刻度"},
	"p50": {"50th percentile", "50 百分位"}, "p99": {"99th percentile", "99 百分位"},
	"legend_traffic": {"traffic", "业务流量"}, "legend_own": {"own load of the drill", "演练自身负载"}, "legend_retried": {"retried", "重试"},
	"legend_failed": {"failed", "失败"}, "legend_doubt": {"in doubt (never repeated)", "结果未知（不可重发）"}, "legend_fault": {"fault in place", "故障期间"}, "legend_return": {"member on its way back", "成员恢复中"},

	"phases": {"Before, during and after", "故障前、中、后"}, "phase": {"Phase", "阶段"}, "length": {"Length", "时长"},
	"phase_before": {"before", "故障前"}, "phase_during": {"during the fault", "故障中"}, "phase_return": {"until it is back", "恢复中"}, "phase_after": {"after", "恢复后"},
	"requests": {"Requests", "来源"}, "traffic": {"traffic", "业务流量"}, "own": {"own load", "自身负载"}, "served": {"Served", "成功"},
	"retried": {"Retried", "重试"}, "in_doubt": {"In doubt", "未知"}, "per_second": {"Per second", "每秒"}, "longest": {"Longest", "最长"}, "gap": {"Longest gap", "最长间隔"},

	"timeline": {"Time line", "时间线"}, "time": {"Time", "时间"}, "what": {"What", "事件"},
	"step_begin": {"the drill begins", "演练开始"}, "step_fault": {"the fault begins", "故障开始"}, "step_clear": {"the fault ends", "故障解除"},
	"step_healthy": {"the member is healthy", "成员恢复健康"}, "step_restore": {"the member is in its former state", "成员回到原状态"},
	"step_end":   {"the drill is over", "演练结束"},
	"mark_fault": {"fault", "故障"}, "mark_clear": {"cleared", "解除"}, "mark_restore": {"back", "归位"},
	"phase_notice": {"announced", "预告"},

	"members": {"Members of the domain at the start", "开始时域内成员"}, "state": {"State", "状态"}, "priority": {"Priority", "优先级"},
	"rated": {"Rated, per second", "额定每秒"}, "firmware": {"Firmware", "固件"}, "serial": {"Serial number", "序列号"},
	"working": {"working", "工作"}, "standby": {"standby", "备用"}, "draining": {"draining", "排空"}, "suspect": {"suspect", "可疑"},
	"down": {"down", "停用"}, "fenced": {"fenced", "隔离"}, "removed": {"removed", "已移除"},

	"limits_were": {"The limits were set for this drill and are part of its order.", "限值随本次演练设定，是演练指令的一部分。"},
	"simulated": {
		"The fault was simulated between the cluster and the member, on our side of the line. The device itself was not touched.",
		"故障在集群与成员之间、我方一侧模拟，设备本身未受影响。",
	},

	// The notes of checks, by their text in the report.
	"the member became suspect":                      {"the member became suspect", "成员变为可疑"},
	"the member became down":                         {"the member became down", "成员已停用"},
	"the member became fenced":                       {"the member became fenced", "成员已隔离"},
	"the member became suspect, expected was down":   {"the member became suspect, expected was down", "成员仅变为可疑，应为停用"},
	"the member became down, expected was fenced":    {"the member became down, expected was fenced", "成员停用，应为隔离"},
	"the member became suspect, expected was fenced": {"the member became suspect, expected was fenced", "成员仅变为可疑，应为隔离"},
	"the member stayed working":                      {"the member stayed working", "成员一直在工作"},
	"the member stayed working, expected was down":   {"the member stayed working, expected was down", "成员一直在工作，应为停用"},
	"the member stayed working, expected was fenced": {"the member stayed working, expected was fenced", "成员一直在工作，应为隔离"},
	"the member stayed standby":                      {"the member stayed standby", "成员一直备用"},
	"the member stayed standby, expected was down":   {"the member stayed standby, expected was down", "成员一直备用，应为停用"},
	"the member stayed standby, expected was fenced": {"the member stayed standby, expected was fenced", "成员一直备用，应为隔离"},
	"the member is working again":                    {"the member is working again", "成员恢复工作"},
	"the member is standby again":                    {"the member is standby again", "成员恢复备用"},
	"the member is not working again: look after it": {"the member is not working again: look after it", "成员未恢复工作：请检查"},
	"the member is not standby again: look after it": {"the member is not standby again: look after it", "成员未恢复备用：请检查"},
	noteLate:        {noteLate, "成员仍有应答，只是迟缓，可以继续工作；以延迟评判"},
	noteEarly:       {noteEarly, "演练提前结束"},
	noteService:     {noteService, "服务提前停止"},
	noteNoRequests:  {noteNoRequests, "没有请求：请让演练自带负载"},
	noteFewRequests: {noteFewRequests, "请求太少，无法评判"},
	noteBelowFloor:  {noteBelowFloor, "超过倍数，但仍低于忽略界限"},
}

// Notes of checks.
const (
	noteLate        = "the member answered, only late: it may go on working; latency judges"
	noteEarly       = "the drill ended too early"
	noteService     = "the service stopped too early"
	noteNoRequests  = "there were no requests: let the drill make its own load"
	noteFewRequests = "too few requests before or during the fault"
	noteBelowFloor  = "above the factor, but still below the floor of latency"
)
