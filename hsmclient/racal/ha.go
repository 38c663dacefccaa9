package racal

// cmdHA makes a MAC key: TMK · ";" · scheme TMK 1A · scheme LMK 1A · "0" → TAK(TMK) · TAK(LMK), no check value
// (facts/hsm.md §1.3). Written and read by requestPair and parsePair.
const cmdHA = "HA"
