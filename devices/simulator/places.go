package simulator

import "math"

// place is a point on the ground, in degrees (WGS 84).
type place struct{ lat, lon float64 }

// city is a place with roads to others, given as indexes into cities.
type city struct {
	place
	roads []int
}

// cities answers the net that trucks drive on. A road stands in both of its ends.
func cities() []city {
	net := towns()
	for _, road := range roads() {
		from, to := road[0], road[1]
		net[from].roads = append(net[from].roads, to)
		net[to].roads = append(net[to].roads, from)
	}
	return net
}

// roads answers pairs of towns with land between them, also along the straight line.
func roads() [][2]int {
	return [][2]int{
		{0, 1},
		{1, 2},
		{1, 3},
		{2, 3},
		{2, 5},
		{3, 4},
		{3, 5},
		{5, 6},
		{5, 7},
		{6, 7},
		{6, 25},
		{7, 8},
		{7, 9},
		{4, 7},
		{4, 10},
		{4, 13},
		{10, 13},
		{9, 10},
		{9, 8},
		{9, 27},
		{27, 20},
		{19, 20},
		{11, 19},
		{10, 11},
		{11, 13},
		{13, 14},
		{0, 14},
		{12, 14},
		{12, 15},
		{15, 16},
		{0, 16},
		{15, 18},
		{17, 18},
		{8, 22},
		{21, 22},
		{22, 23},
		{23, 25},
		{24, 25},
		{23, 24},
		{21, 26},
		{0, 13},
	}
}

// towns answers cities of Europe.
func towns() []city {
	return []city{
		{place: place{48.8566, 2.3522}},  // 0 Paris
		{place: place{50.8503, 4.3517}},  // 1 Brussels
		{place: place{52.0907, 5.1214}},  // 2 Utrecht
		{place: place{50.9375, 6.9603}},  // 3 Cologne
		{place: place{50.1109, 8.6821}},  // 4 Frankfurt
		{place: place{52.3759, 9.7320}},  // 5 Hanover
		{place: place{52.5200, 13.4050}}, // 6 Berlin
		{place: place{51.3397, 12.3731}}, // 7 Leipzig
		{place: place{50.0755, 14.4378}}, // 8 Prague
		{place: place{48.1351, 11.5820}}, // 9 Munich
		{place: place{48.7758, 9.1829}},  // 10 Stuttgart
		{place: place{47.3769, 8.5417}},  // 11 Zurich
		{place: place{45.7640, 4.8357}},  // 12 Lyon
		{place: place{48.5734, 7.7521}},  // 13 Strasbourg
		{place: place{47.3220, 5.0415}},  // 14 Dijon
		{place: place{43.6047, 1.4442}},  // 15 Toulouse
		{place: place{44.8378, -0.5792}}, // 16 Bordeaux
		{place: place{40.4168, -3.7038}}, // 17 Madrid
		{place: place{41.6488, -0.8891}}, // 18 Zaragoza
		{place: place{45.4642, 9.1900}},  // 19 Milan
		{place: place{44.4949, 11.3426}}, // 20 Bologna
		{place: place{48.2082, 16.3738}}, // 21 Vienna
		{place: place{49.1951, 16.6068}}, // 22 Brno
		{place: place{51.1079, 17.0385}}, // 23 Wroclaw
		{place: place{52.2297, 21.0122}}, // 24 Warsaw
		{place: place{52.4064, 16.9252}}, // 25 Poznan
		{place: place{47.4979, 19.0402}}, // 26 Budapest
		{place: place{47.2692, 11.4041}}, // 27 Innsbruck
	}
}

const (
	earthRadius = 6371.0088 // km, mean
	degree      = math.Pi / 180
)

// distance is the great circle's length from a to b, in km.
func distance(a, b place) float64 {
	sinLat := math.Sin((b.lat - a.lat) * degree / 2)
	sinLon := math.Sin((b.lon - a.lon) * degree / 2)
	h := sinLat*sinLat + math.Cos(a.lat*degree)*math.Cos(b.lat*degree)*sinLon*sinLon
	return 2 * earthRadius * math.Asin(math.Min(1, math.Sqrt(h)))
}

// bearing is the direction from a to b at a, in degrees from north, 0 to 360.
func bearing(a, b place) float64 {
	lon := (b.lon - a.lon) * degree
	y := math.Sin(lon) * math.Cos(b.lat*degree)
	x := math.Cos(a.lat*degree)*math.Sin(b.lat*degree) -
		math.Sin(a.lat*degree)*math.Cos(b.lat*degree)*math.Cos(lon)
	return math.Mod(math.Atan2(y, x)/degree+360, 360)
}

// travel is the place that lies km from a in the direction of heading.
func travel(a place, heading, km float64) place {
	angle := km / earthRadius
	sinLat, cosLat := math.Sincos(a.lat * degree)
	sinAngle, cosAngle := math.Sincos(angle)
	lat := math.Asin(sinLat*cosAngle + cosLat*sinAngle*math.Cos(heading*degree))
	lon := a.lon*degree + math.Atan2(math.Sin(heading*degree)*sinAngle*cosLat, cosAngle-sinLat*math.Sin(lat))
	return place{lat / degree, lon / degree}
}
