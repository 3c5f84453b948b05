import * as ai from "ai";
import { serve } from "../client.mjs";

serve(ai, null);
