package simulator

import (
	"math"
	"math/rand/v2"
	"testing"
)

// A truck's place goes on as its speed says, and everything stays plausible, for
// two days.
func TestTruckDrivesPlausibly(t *testing.T) {
	net := cities()
	truck := newTruck(rand.New(rand.NewPCG(1, 1)), net)
	states := make(map[string]int)
	for second := range 2 * 24 * 3600 {
		before, speed := truck.at, truck.speed
		truck.step(1)
		states[truck.state]++
		km := distance(before, truck.at)
		// The road winds, and is up to a quarter longer than the line; a leg ends at its city.
		if most := max(speed, truck.speed)/3600*1.3 + 0.05; km > most {
			t.Fatalf("second %d: %.3f km at %.1f km/h", second, km, truck.speed)
		}
		inside := truck.speed >= 0 && truck.speed <= 100 && truck.fuel > 0 && truck.fuel <= 100 &&
			truck.engine > 0 && truck.engine < 110 && truck.heading >= 0 && truck.heading < 360
		if !inside || truck.doors != (truck.state == unloading) || truck.state != moving && truck.speed != 0 {
			t.Fatalf("second %d: %+v", second, truck)
		}
	}
	if states[moving] < 24*3600 || states[unloading] == 0 || states[refuelling] == 0 {
		t.Errorf("states are %v", states)
	}
}

// The same seed is the same truck.
func TestTruckIsSeeded(t *testing.T) {
	net := cities()
	a, b := newTruck(rand.New(rand.NewPCG(3, 4)), net), newTruck(rand.New(rand.NewPCG(3, 4)), net)
	for range 1000 {
		a.step(1)
		b.step(1)
	}
	if a.at != b.at || a.fuel != b.fuel {
		t.Error("two trucks of one seed differ")
	}
}

func TestStationStaysPlausible(t *testing.T) {
	station := newStation(rand.New(rand.NewPCG(1, 9)), cities())
	at := station.at
	for range 24 * 3600 {
		station.step(1)
		warm := station.temperature()
		if warm < -20 || warm > 45 || station.wind < 0 || station.wind > 30 || station.pressure < 950 || station.pressure > 1080 {
			t.Fatalf("%.1f °C, %+v", warm, station)
		}
	}
	if station.at != at {
		t.Error("the station has moved")
	}
}

func TestCitiesAreOneNet(t *testing.T) {
	net := cities()
	reached, next := map[int]bool{0: true}, []int{0}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for _, to := range net[from].roads {
			if km := distance(net[from].place, net[to].place); km < 50 || km > 700 {
				t.Errorf("the road from %d to %d is %.0f km", from, to, km)
			}
			if !reached[to] {
				reached[to] = true
				next = append(next, to)
			}
		}
	}
	if len(reached) != len(net) {
		t.Errorf("%d of %d cities can be reached", len(reached), len(net))
	}
}

func TestGreatCircle(t *testing.T) {
	paris, berlin := place{48.8566, 2.3522}, place{52.52, 13.405}
	if km := distance(paris, berlin); math.Abs(km-877.5) > 1 {
		t.Errorf("Paris to Berlin is %.1f km", km)
	}
	if heading := bearing(paris, berlin); math.Abs(heading-58.5) > 0.5 {
		t.Errorf("Berlin lies at %.1f° from Paris", heading)
	}
	if off := distance(travel(paris, bearing(paris, berlin), distance(paris, berlin)), berlin); off > 0.001 {
		t.Errorf("the way to Berlin ends %.3f km beside it", off)
	}
}
