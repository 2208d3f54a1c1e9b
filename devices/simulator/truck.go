package simulator

import (
	"math"
	"math/rand/v2"
	"time"

	"millrace/telemetry"
)

// truck drives from city to city, unloads, refuels, and goes on.
type truck struct {
	random *rand.Rand
	net    []city

	from, to int     // the road it is on
	length   float64 // of the road, km
	done     float64 // of the road, km
	at       place
	heading  float64 // degrees from north

	state  string
	rest   float64 // s left of a stop
	speed  float64 // km/h
	cruise float64 // km/h it would like to go
	fuel   float64 // percent
	engine float64 // °C
	doors  bool    // open
}

// The states of a truck.
const (
	moving     = "moving"
	unloading  = "unloading"
	refuelling = "refuelling"
)

func newTruck(random *rand.Rand, net []city) *truck {
	t := &truck{random: random, net: net, fuel: 30 + 70*random.Float64(), engine: 70 + 20*random.Float64()}
	t.to = random.IntN(len(net))
	t.depart()
	t.done = t.length * random.Float64() * 0.95
	t.speed = t.cruise
	t.steer()
	return t
}

// depart takes one of the roads from where it arrived.
func (t *truck) depart() {
	t.from = t.to
	roads := t.net[t.from].roads
	t.to = roads[t.random.IntN(len(roads))]
	t.length, t.done = distance(t.net[t.from].place, t.net[t.to].place), 0
	t.cruise = 62 + 26*t.random.Float64()
	t.state, t.doors = moving, false
}

func (t *truck) arrive() {
	t.speed, t.done = 0, t.length
	t.state, t.doors, t.rest = unloading, true, 60+240*t.random.Float64()
}

// step lets seconds go by, in steps of at most one.
func (t *truck) step(seconds float64) {
	for seconds > 0 {
		part := min(seconds, 1)
		seconds -= part
		if t.state == moving {
			t.drive(part)
		} else {
			t.stand(part)
		}
	}
	t.steer()
}

func (t *truck) drive(s float64) {
	t.cruise = min(max(t.cruise+t.random.NormFloat64()*0.4*s, 50), 90)
	target := t.cruise
	if left := t.length - t.done; left < 1 {
		target = max(15, target*left) // slow down over the last kilometre
	}
	t.speed += min(max(target-t.speed, -6*s), 2.5*s)
	km := t.speed * s / 3600
	t.done += km
	t.fuel -= km * 0.05 // 2,000 km a tank
	t.engine += (88 + 0.05*(t.speed-70) - t.engine) * 0.01 * s
	switch {
	case t.done >= t.length:
		t.arrive()
	case t.fuel < 8:
		t.speed, t.state, t.rest = 0, refuelling, 180
	}
}

func (t *truck) stand(s float64) {
	t.rest -= s
	t.engine += (45 - t.engine) * 0.001 * s
	if t.state == refuelling {
		t.fuel = min(100, t.fuel+0.55*s)
	}
	switch {
	case t.rest > 0:
	case t.state == refuelling:
		t.state = moving
	default:
		t.depart()
	}
}

// steer puts the truck where it is on its road: beside the straight line by up
// to two kilometres, as roads are, and on it at both ends.
func (t *truck) steer() {
	before := t.at
	a, b := t.net[t.from].place, t.net[t.to].place
	line := bearing(a, b)
	along := travel(a, line, t.done)
	ends := math.Sin(math.Pi * min(t.done/t.length, 1))
	t.at = travel(along, line+90, 2*ends*math.Sin(t.done/7))
	if distance(before, t.at) > 0.0005 && distance(before, t.at) < 5 {
		t.heading = bearing(before, t.at)
	} else if t.done == 0 {
		t.heading = line
	}
}

// read appends the truck's metrics.
func (t *truck) read(to []telemetry.Metric) []telemetry.Metric {
	return append(
		to,
		telemetry.Metric{Name: "door", Value: telemetry.Bool(t.doors)},
		telemetry.Metric{Name: "engine_temp", Value: telemetry.Number(round(t.engine, 1))},
		telemetry.Metric{Name: "fuel", Value: telemetry.Number(round(t.fuel, 2))},
		telemetry.Metric{Name: "heading", Value: telemetry.Number(round(t.heading, 0))},
		telemetry.Metric{Name: "lat", Value: telemetry.Number(round(t.at.lat, 6))},
		telemetry.Metric{Name: "lon", Value: telemetry.Number(round(t.at.lon, 6))},
		telemetry.Metric{Name: "speed", Value: telemetry.Number(round(t.speed, 1))},
		telemetry.Metric{Name: "state", Value: telemetry.Text(t.state)},
	)
}

// station is a weather station: it stands still while its air does not.
type station struct {
	random   *rand.Rand
	at       place
	clock    time.Duration // of its day
	pressure float64       // hPa
	wind     float64       // m/s
	drift    float64       // °C beside the day's curve
}

func newStation(random *rand.Rand, net []city) *station {
	near := net[random.IntN(len(net))].place
	return &station{
		random: random, at: travel(near, 360*random.Float64(), 3+12*random.Float64()),
		clock: time.Duration(random.Int64N(int64(24 * time.Hour))), pressure: 1013, wind: 4,
	}
}

func (s *station) step(seconds float64) {
	s.clock += time.Duration(seconds * float64(time.Second))
	spread := math.Sqrt(min(seconds, 60))
	s.drift += -0.001*s.drift*seconds + 0.01*spread*s.random.NormFloat64()
	s.pressure += (1013-s.pressure)*0.0001*seconds + 0.01*spread*s.random.NormFloat64()
	s.wind = min(max(s.wind+0.1*spread*s.random.NormFloat64(), 0), 30)
}

// temperature follows the day: warmest in the afternoon.
func (s *station) temperature() float64 {
	return 12 + 6*math.Sin(2*math.Pi*(s.clock.Hours()-9)/24) + s.drift
}

func (s *station) read(to []telemetry.Metric) []telemetry.Metric {
	temperature := s.temperature()
	return append(
		to,
		telemetry.Metric{Name: "humidity", Value: telemetry.Number(round(min(max(95-2.2*temperature, 10), 100), 1))},
		telemetry.Metric{Name: "lat", Value: telemetry.Number(round(s.at.lat, 6))},
		telemetry.Metric{Name: "lon", Value: telemetry.Number(round(s.at.lon, 6))},
		telemetry.Metric{Name: "pressure", Value: telemetry.Number(round(s.pressure, 1))},
		telemetry.Metric{Name: "temperature", Value: telemetry.Number(round(temperature, 1))},
		telemetry.Metric{Name: "wind", Value: telemetry.Number(round(s.wind, 1))},
	)
}

// round rounds to digits behind the point, so that readings are as short as a
// device's are.
func round(f float64, digits int) float64 {
	unit := math.Pow10(digits)
	return math.Round(f*unit) / unit
}
