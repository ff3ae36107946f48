export { Feature } from './feature.js';
export { Features, FeaturesModule } from './features.module.js';
