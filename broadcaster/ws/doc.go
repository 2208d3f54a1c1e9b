// Package ws puts WebSockets (RFC 6455) in front of the hub of package
// broadcaster: one connection carries several subscriptions.
//
//	client ──ops──▶ gws reads ──▶ conn ──▶ broadcaster.Client
//	       ◀──────────── whole frames ──── outlet (all writes, also pongs)
//
// Its invariant: the library only reads. Every byte to the client goes through
// the client's outlet, in whole frames, so no write of the library's can wait,
// or cut a frame of the hub's in two.
//
// Messages are JSON text. A client says
//
//	{"op":"subscribe","id":"a","device":["truck-*"],"where":["speed>80"],"from":"-1h"}
//	{"op":"update","id":"a","metric":["speed"]}    another wish, from where it is
//	{"op":"pause","id":"a"}  {"op":"resume","id":"a"}  {"op":"unsubscribe","id":"a"}
//	{"op":"seek","id":"a","from":"-24h"}           from: a cursor, a time, an age; none: now
//	{"op":"speed","id":"a","speed":10}             of playback
//
// with the parameters of [broadcaster.ParseQuery], each a string, a number, a
// boolean, or an array of them. The server says
//
//	{"id":"a","cursor":"…","readings":[…]}
//	{"id":"a","event":"live"|"gap"|"skipped"|"snapshot"|"end"|"error",…}
//
// The cursor of a message is behind all that was sent up to it. A snapshot in
// several messages has it on the last one.
package ws
