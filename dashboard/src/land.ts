// The outlines of the land, as paths in the map's world. A chunk of its own:
// main.ts asks for it when the page already stands.

import { geoArea, geoCentroid, geoMercator, geoPath, type GeoPermissibleObjects } from "d3-geo";
import { feature, mesh } from "topojson-client";
import type { Feature, Geometry } from "geojson";
import type { GeometryCollection, Topology } from "topojson-specification";
import coarseAddress from "world-atlas/countries-110m.json?url";
import fineAddress from "world-atlas/countries-50m.json?url";
import { worldX, worldY } from "./camera";

export type Detail = "110m" | "50m";

/** The side of the square the paths are in: floats keep their precision there. */
export const WORLD = 4096;

export interface Land {
  detail: Detail;
  ground: Path2D;
  borders: Path2D;
  names: CountryName[];
}

/** Where a country's name stands, in the unit world, the greatest first. */
export interface CountryName {
  name: string;
  x: number;
  y: number;
  /** The side of a square of the country's area, as a part of the world's side. */
  extent: number;
}

type Atlas = Topology<{
  countries: GeometryCollection<{ name: string }>;
  land: GeometryCollection;
}>;

/** Loads and projects the outlines. Rejects if the server does not answer. */
export async function loadLand(detail: Detail): Promise<Land> {
  const answer = await fetch(detail === "110m" ? coarseAddress : fineAddress);
  if (!answer.ok) throw new Error(`the outlines of the land: ${answer.status}`);
  const atlas = (await answer.json()) as Atlas;
  const { countries, land } = atlas.objects;
  return {
    detail,
    ground: draw(feature(atlas, land)),
    borders: draw(mesh(atlas, countries, (a, b) => a !== b)),
    names: feature(atlas, countries).features.map(nameOf).sort((a, b) => b.extent - a.extent),
  };
}

function draw(shape: GeoPermissibleObjects): Path2D {
  // Mercator, so that WORLD pixels are the whole world; precision 0: the points
  // are dense enough, no great circles need to be drawn between them.
  const projection = geoMercator()
    .scale(WORLD / (2 * Math.PI))
    .translate([WORLD / 2, WORLD / 2])
    .precision(0);
  const path = new Path2D();
  // d3-geo calls moveTo, lineTo, arc and closePath, which a Path2D has too.
  geoPath(projection, path as unknown as CanvasRenderingContext2D)(shape);
  return path;
}

type Country = Feature<Geometry, { name: string }>;

function nameOf(country: Country): CountryName {
  const main = mainland(country.geometry);
  const [lon, lat] = geoCentroid(main);
  const extent = Math.sqrt(geoArea(main)) / (2 * Math.PI * Math.cos((lat * Math.PI) / 180));
  return { name: country.properties.name, x: worldX(lon), y: worldY(lat), extent };
}

/** The greatest polygon: France's name belongs in Europe. */
function mainland(geometry: Geometry): GeoPermissibleObjects {
  if (geometry.type !== "MultiPolygon") return geometry;
  let best: GeoPermissibleObjects = geometry;
  let most = -1;
  for (const coordinates of geometry.coordinates) {
    const polygon = { type: "Polygon" as const, coordinates };
    const area = geoArea(polygon);
    if (area > most) [best, most] = [polygon, area];
  }
  return best;
}
