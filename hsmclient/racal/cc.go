package racal

// cmdCC translates from one zone PIN key to another; the fields are those of CA (facts/hsm.md §1.4).
const cmdCC = "CC"
