package keystore

import (
	"context"
	"fmt"
)

// Served says that the order was used for this card: its keys were intended under it.
func (s *Store) Served(ctx context.Context, orderID, psamNo string) (bool, error) {
	var found bool
	err := s.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM issue_order_cards WHERE order_id = $1 AND psam_no = $2)`, orderID, psamNo).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("read the use of order %s: %w", orderID, err)
	}
	return found, nil
}
