// Package broadcaster shows the log to screens: it is the hub between one
// reader of the log and thousands of clients over WebSocket (package ws) and
// server-sent events ([NewHandler]).
//
//	           append              round                    offer
//	Log.Follow ──────▶ ring ──────────────▶ latest values ──────▶ outlet ─▶ client
//	                    │        every 10   frames, one for         │
//	                    │       to 100 ms   all who want the same   │ does not take all
//	                    │                                           ▼
//	Log, History ───────┴────────────────────────────────▶ runner, one a client
//	  (the past, catching up)                              until it has caught up
//
// Its invariant: the readings and cursors a client receives fit together. What
// a subscription has received is exactly what its filter matches before the
// cursor of the last message, each reading once, or an event (gap, skipped)
// says what is not. So a client goes on from any cursor, at any instance.
//
// A subscription is either live, a member of a group of subscriptions that want
// the same bytes, or on its way, driven by a goroutine of its own. It becomes
// live only at the very place where its group stands, between two rounds: that
// is the flip without a seam.
package broadcaster
