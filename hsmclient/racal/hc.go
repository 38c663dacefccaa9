package racal

// cmdHC makes a PIN key: TMK · ";" · scheme TMK 1A · scheme LMK 1A · "0" → key(TMK) · key(LMK), no check value
// (facts/hsm.md §1.3). Written and read by requestPair and parsePair.
const cmdHC = "HC"
